"""Normalization of raw pixels as part of the model, and of features."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_psp.arguments import checked_choice, checked_number, checked_tuple
from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD
from keras_psp.layers.fused_norm import batch_norm


def full_precision(policy: keras.DTypePolicy) -> str:
    """Dtype for values that need full precision: float32, or float64 in a float64 network."""
    return "float64" if policy.compute_dtype == "float64" else "float32"


@keras.saving.register_keras_serializable("keras_psp")
class ImageNormalization(keras.layers.Layer):
    """Computes (image - mean) / std, in BGR order if the weights need it.

    Computed in float32 even in half-precision networks, since bfloat16 has no fractional digits
    left at a pixel value of 200. (A float64 layer stays float64.)

    Args:
        mean, std: one number per channel, on the scale of the images, in `channel_order`.
        channel_order: "rgb", or "bgr" for weights from Caffe: channels are reversed before
            mean and std are applied. Only for three channels.

    Input:  (batch, height, width, channels), float or integer, e.g. RGB 0..255.
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
        self.std = checked_tuple("std", std, functools.partial(checked_number, above=0))
        self.mean = checked_tuple("mean", mean, checked_number)
        if not len(self.mean) == len(self.std) > 0:
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}; give one of each per "
                "channel."
            )
        self.channel_order = checked_choice("channel_order", channel_order, ("rgb", "bgr"))
        if self.channel_order == "bgr" and len(self.mean) != 3:
            raise ValueError(
                f"channel_order='bgr' is for three channels, not {len(self.mean)}; omit it."
            )

    def build(self, input_shape: tuple) -> None:
        if input_shape[-1] != len(self.mean):
            raise ValueError(
                f"images have {input_shape[-1]} channels but mean and std {len(self.mean)} "
                "values; give one per channel."
            )
        self.built = True

    def call(self, images: Any) -> Any:
        images = ops.cast(images, self.compute_dtype)
        if self.channel_order == "bgr":
            images = ops.flip(images, axis=-1)
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


# One image's statistics vary more than a batch's, so more of them must be averaged.
SINGLE_IMAGE_MOMENTUM = 0.97


@keras.saving.register_keras_serializable("keras_psp")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' BatchNormalization that also trains with a single image per pass.

    One image's mean and variance differ from those that evaluation uses, and if there is only one
    value per channel, as in the pyramid's level with one bin, the variance is 0. A single image is
    therefore normalized with the moving statistics, after it has updated them: forward as in
    evaluation, with the gradient of its own statistics (batch renormalization, Ioffe, 2017).
    Two or more images, counted over all devices if synchronized, are normalized as in Keras, but
    in one operation.

    Input:  (batch, ..., channels).
    Output: the same shape.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.is_fused) or mask is not None or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        if inputs.shape[0] in (1, None) and inputs.shape[1:3] == (1, 1):
            return self._normalize_pixels(inputs)
        return self._normalize(inputs)

    @property
    def is_fused(self) -> bool:
        """Whether training normalizes maps in one operation, see `batch_norm`."""
        backend = keras.backend.backend()
        apart = {"tensorflow": self.compute_dtype == "float64", "jax": False, "torch": True}
        unusual = self.axis not in (-1, 3) or getattr(self, "renorm", False)
        return self.trainable and not unusual and not (self.synchronized and apart[backend])

    def then(self, function: Callable[..., Any], inputs: Any, *weights: Any) -> Any:
        """function(relu(normalized inputs), *weights) in training, see `batch_norm`."""
        return self._normalize(inputs, then=function, weights=weights)

    def _normalize(self, inputs, **options):
        channels, batch = inputs.shape[-1], inputs.shape[0]
        dtype = full_precision(self.dtype_policy)
        gamma = ops.cast(self.gamma, dtype) if self.scale else ops.ones(channels, dtype)
        beta = ops.cast(self.beta, dtype) if self.center else ops.zeros(channels, dtype)
        synchronized = self.synchronized and _replicas() > 1
        single = batch == 1
        if batch is None:  # a graph for batches of any size
            single = ops.shape(inputs)[0] == 1
        if synchronized:
            single = False

        before = self._statistics(dtype)

        def renormalization(mean, variance):
            new_mean, new_variance = self._moved(before, mean, variance, single)
            factor = ops.sqrt((variance + self.epsilon) / (new_variance + self.epsilon))
            shift = (mean - new_mean) * ops.rsqrt(new_variance + self.epsilon)
            return (
                ops.where(single, factor, ops.ones_like(factor)),
                ops.where(single, shift, ops.zeros_like(shift)),
            )

        outputs, mean, variance = batch_norm(
            ops.cast(inputs, self.compute_dtype),
            gamma,
            beta,
            self.epsilon,
            renormalization=None if single is False else renormalization,
            synchronized=synchronized,
            **options,
        )
        self._assign(self._moved(before, mean, variance, single))
        return outputs

    def _normalize_pixels(self, inputs):
        """Normalizes maps of one pixel, from one image or an unknown number of images."""
        x = ops.cast(inputs, full_precision(self.dtype_policy))
        mean, variance = ops.moments(x, axes=(0, 1, 2), synchronized=self.synchronized)
        single = ops.shape(x)[0] == 1
        if self.synchronized and _replicas() > 1:
            single = False
        # One pixel's own statistics have no gradient.
        own = ops.stop_gradient(mean), ops.stop_gradient(variance)
        new_mean, new_variance = self._moved(self._statistics(x.dtype), *own, single)
        outputs = ops.batch_normalization(
            x,
            mean=ops.where(single, new_mean, mean),
            variance=ops.where(single, new_variance, variance),
            axis=self.axis,
            offset=ops.cast(self.beta, x.dtype) if self.center else None,
            scale=ops.cast(self.gamma, x.dtype) if self.scale else None,
            epsilon=self.epsilon,
        )
        self._assign((new_mean, new_variance))
        return ops.cast(outputs, self.compute_dtype)

    def _statistics(self, dtype):
        """The moving mean and variance.

        Read once per call: if there are two reads before an assignment, TensorFlow's graph
        optimization may move one of them after it.
        """
        return ops.cast(self.moving_mean, dtype), ops.cast(self.moving_variance, dtype)

    def _moved(self, before, mean, variance, single):
        """The moving statistics after this batch."""
        old_mean, old_variance = before
        momentum = self.momentum
        if single is not False:
            slower = max(momentum, SINGLE_IMAGE_MOMENTUM)
            both = (ops.convert_to_tensor(value, mean.dtype) for value in (slower, momentum))
            momentum = ops.where(single, *both)
            # Plus the distance from the moving mean, one image's variance is that over all images.
            distance = ops.square(mean - old_mean)
            variance = ops.where(single, variance + distance, variance)
        new_mean = old_mean * momentum + mean * (1 - momentum)
        new_variance = old_variance * momentum + variance * (1 - momentum)
        return new_mean, new_variance

    def _assign(self, statistics):
        for variable, value in zip(
            (self.moving_mean, self.moving_variance), statistics, strict=True
        ):
            variable.assign(value)


def _replicas():
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
