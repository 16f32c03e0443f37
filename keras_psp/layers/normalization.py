"""Normalisation of raw pixels, inside the model."""

import keras
import numpy as np
from keras import ops

from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD


def full_precision(policy):
    """The dtype of what must not lose digits: float32, or float64 in a float64 network."""
    return "float64" if policy.compute_dtype == "float64" else "float32"


@keras.saving.register_keras_serializable("keras_psp")
class ImageNormalization(keras.layers.Layer):
    """(image - mean) / std, with the channels turned round where the weights want BGR.

    Computed in float32 whatever the model's precision: bfloat16 has no room for the
    fraction of a pixel value of 200.

    Args:
        mean, std: three numbers each, on the scale 0..255, in the order `channel_order`.
        channel_order: "rgb", or "bgr" for weights from Caffe: the channels are swapped
            before mean and std apply.

    Input:  (batch, height, width, 3), RGB 0..255, float or integer.
    Output: the same shape, float32.
    """

    def __init__(self, *, mean=IMAGENET_MEAN, std=IMAGENET_STD, channel_order="rgb", **kwargs):
        kwargs["dtype"] = full_precision(keras.dtype_policies.get(kwargs.get("dtype", "float32")))
        super().__init__(**kwargs)
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != 3:
                raise ValueError(f"{name}={values} must hold three numbers, one per channel.")
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order={channel_order!r} is unknown; choose 'rgb' or 'bgr'.")
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.channel_order = channel_order

    def call(self, images):
        images = ops.cast(images, self.compute_dtype)
        if self.channel_order == "bgr":
            images = images[..., ::-1]
        mean = ops.convert_to_tensor(self.mean, dtype=images.dtype)
        scale = ops.convert_to_tensor(1.0 / np.array(self.std), dtype=images.dtype)
        return (images - mean) * scale

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "mean": self.mean,
            "std": self.std,
            "channel_order": self.channel_order,
        }
