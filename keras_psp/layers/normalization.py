"""Normalization of raw pixels as part of the model."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD


def full_precision(policy: keras.DTypePolicy) -> str:
    """Dtype for values that need full precision: float32, or float64 in a float64 network."""
    return "float64" if policy.compute_dtype == "float64" else "float32"


@keras.saving.register_keras_serializable("keras_psp")
class ImageNormalization(keras.layers.Layer):
    """Computes (image - mean) / std, in BGR order if the weights need it.

    Always computed in float32: bfloat16 has no fractional digits left at a pixel value of 200.

    Args:
        mean, std: three numbers each, on the scale 0..255, in `channel_order`.
        channel_order: "rgb", or "bgr" for weights from Caffe: channels are reversed before
            mean and std are applied.

    Input:  (batch, height, width, 3), RGB 0..255, float or integer.
    Output: the same shape, float32.

    Example:
        normalize = ImageNormalization(mean=(127.5,) * 3, std=(127.5,) * 3)
        normalize(np.full((1, 4, 4, 3), 255, "uint8"))  # all 1.0
    """

    def __init__(
        self,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        channel_order: Literal["rgb", "bgr"] = "rgb",
        **kwargs: Any,
    ):
        kwargs["dtype"] = full_precision(keras.dtype_policies.get(kwargs.get("dtype", "float32")))
        super().__init__(**kwargs)
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != 3:
                raise ValueError(f"{name}={values} must have three numbers, one per channel.")
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order={channel_order!r} is unknown; choose 'rgb' or 'bgr'.")
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.channel_order = channel_order

    def call(self, images: Any) -> Any:
        images = ops.cast(images, self.compute_dtype)
        if self.channel_order == "bgr":
            images = images[..., ::-1]
        mean = ops.convert_to_tensor(self.mean, dtype=images.dtype)
        scale = ops.convert_to_tensor(1.0 / np.array(self.std), dtype=images.dtype)
        return (images - mean) * scale

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mean": self.mean,
            "std": self.std,
            "channel_order": self.channel_order,
        }
