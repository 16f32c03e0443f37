"""Normalization of raw pixels as part of the model, and of features."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_psp.arguments import checked_choice, checked_number, checked_tuple
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
        self.mean = checked_tuple("mean", mean, checked_number, length=3)
        self.std = checked_tuple("std", std, functools.partial(checked_number, above=0), length=3)
        self.channel_order = checked_choice("channel_order", channel_order, ("rgb", "bgr"))

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


# One image's statistics vary more than a batch's, so that more of them must be averaged.
SINGLE_IMAGE_MOMENTUM = 0.97


@keras.saving.register_keras_serializable("keras_psp")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' BatchNormalization that also trains with a single image per pass.

    One image's mean and variance are not those that evaluation normalizes with, and where there
    is one value per channel, as in the pyramid's level of one bin, the variance is 0. Therefore a
    single image is normalized with the moving statistics, to which it is added first: forward as
    in evaluation, with the gradient of its own statistics (batch renormalization, Ioffe, 2017).
    Two images or more, on all devices together if synchronized, are normalized as by Keras.

    Input:  (batch, ..., channels).
    Output: the same shape.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        batch = inputs.shape[0]
        if not (training and self.trainable) or mask is not None or batch not in (1, None):
            return super().call(inputs, training=training, mask=mask)
        if self.synchronized and _replicas() > 1:
            return super().call(inputs, training=training)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        mean, variance = ops.moments(x, axes=axes, synchronized=self.synchronized)
        moving_mean = ops.cast(self.moving_mean, x.dtype)
        moving_variance = ops.cast(self.moving_variance, x.dtype)

        # With the distance from the moving mean, the variance is that over all images.
        own_mean, own_variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
        spread = own_variance + ops.square(own_mean - moving_mean)
        momentum = max(self.momentum, SINGLE_IMAGE_MOMENTUM)
        new_mean = moving_mean * momentum + own_mean * (1 - momentum)
        new_variance = moving_variance * momentum + spread * (1 - momentum)
        if all(x.shape[axis] == 1 for axis in axes[1:]):  # its own statistics have no gradient
            factor, shift = ops.ones_like(mean), ops.zeros_like(mean)
            mean_used, variance_used = new_mean, new_variance
        else:
            factor = ops.sqrt((own_variance + self.epsilon) / (new_variance + self.epsilon))
            shift = (own_mean - new_mean) * ops.rsqrt(new_variance + self.epsilon)
            mean_used, variance_used = mean, variance

        if batch is None:  # a graph for batches of any size
            single = ops.shape(x)[0] == 1
            factor = ops.where(single, factor, ops.ones_like(factor))
            shift = ops.where(single, shift, ops.zeros_like(shift))
            mean_used = ops.where(single, mean_used, mean)
            variance_used = ops.where(single, variance_used, variance)
            keep, take = self.momentum, 1.0 - self.momentum
            new_mean = ops.where(single, new_mean, moving_mean * keep + mean * take)
            new_variance = ops.where(single, new_variance, moving_variance * keep + variance * take)
        self.moving_mean.assign(new_mean)
        self.moving_variance.assign(new_variance)
        gamma = ops.cast(self.gamma, x.dtype) if self.scale else ops.ones_like(factor)
        offset = shift * gamma
        outputs = ops.batch_normalization(
            x,
            mean=mean_used,
            variance=variance_used,
            axis=self.axis,
            offset=offset + ops.cast(self.beta, x.dtype) if self.center else offset,
            scale=factor * gamma,
            epsilon=self.epsilon,
        )
        return ops.cast(outputs, self.compute_dtype)


def _replicas():
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
