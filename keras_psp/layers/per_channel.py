"""Convolutions with one group per channel, e.g. ConvNeXt's, in an operation that is fast."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class PerChannelConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D(channels, groups=channels)` computed as a depthwise convolution.

    Weights and outputs are the same. On TensorFlow, Keras compiles grouped convolutions with XLA,
    which makes a training step on a CPU 4.5 times as long (`benchmarks/small_networks.py`), and
    which tf2onnx can't convert.

    Args: those of `keras.layers.Conv2D`.

    Input:  (batch, height, width, channels).
    Output: (batch, h, w, channels).
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return ops.depthwise_conv(
            inputs,
            ops.transpose(kernel, (0, 1, 3, 2)),
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )


def is_per_channel(layer: keras.Operation) -> bool:
    """Whether a layer is a built `keras.layers.Conv2D` with one group per channel."""
    if type(layer) is not keras.layers.Conv2D or layer.groups == 1 or not layer.built:
        return False
    return layer.kernel.shape[-2:] == (1, layer.groups)
