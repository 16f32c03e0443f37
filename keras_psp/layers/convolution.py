"""Convolutions with the symmetric padding of Caffe and torch, and their BatchNorm."""

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_psp.arguments import checked_choice, checked_number
from keras_psp.layers.devices import on_accelerator
from keras_psp.layers.folding import fold, folded_tensors, replaced_convolution
from keras_psp.layers.normalization import BatchNormalization


@functools.cache
def _has_dilated_gradient(dtype):
    """Whether TensorFlow has dilated gradients on the CPU, as it does with oneDNN in float32."""
    import tensorflow as tf

    with tf.init_scope(), tf.device("CPU"):
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=(1, 9, 9, 8),
                filter=tf.ones((3, 3, 8, 8), dtype),
                out_backprop=tf.ones((1, 9, 9, 8), dtype),
                strides=[1, 1, 1, 1],
                padding="SAME",
                dilations=[1, 2, 2, 1],
            )
        except tf.errors.OpError:
            return False
    return True


def convolution(
    x: Any, kernel: Any, *, strides: Sequence[int] = (1, 1), dilation_rate: Sequence[int] = (1, 1)
) -> Any:
    """Convolution with symmetric padding, without bias."""
    replaced = replaced_convolution(x, kernel, max(strides), max(dilation_rate))
    if replaced is not None:
        return replaced
    # At stride 1 "same" is symmetric, and every kernel supports it.
    same = max(strides) == 1
    sides = _sides(kernel.shape[:2], dilation_rate)
    padding = [[0, 0], [sides[0]] * 2, [sides[1]] * 2, [0, 0]]
    if keras.backend.backend() == "tensorflow":
        pads = "SAME" if same else padding
        return _tensorflow_convolution(x, kernel, strides, dilation_rate, pads)
    if keras.backend.backend() == "torch":
        return _torch_convolution(x, kernel, strides, dilation_rate, sides)
    if not same and max(sides) > 0:
        x = ops.pad(x, padding)
    return ops.conv(
        x,
        kernel,
        strides=strides,
        padding="same" if same else "valid",
        dilation_rate=dilation_rate,
        data_format="channels_last",
    )


def _torch_convolution(x, kernel, strides, dilation_rate, sides):
    """The same without the two copies of each map that `keras.ops.conv` makes (Keras 3.15)."""
    import torch

    kernel = ops.convert_to_tensor(kernel).permute(3, 2, 0, 1)
    y = torch.nn.functional.conv2d(x.movedim(-1, 1), kernel, None, strides, sides, dilation_rate)
    return y.movedim(1, -1)


def _sides(kernel_size, dilation_rate):
    """Padding above and below, and on the left and right."""
    return [d * (n - 1) // 2 for d, n in zip(dilation_rate, kernel_size, strict=True)]


def _tensorflow_convolution(x, kernel, strides, dilation_rate, pads):
    """One native TensorFlow op, also with dilation.

    `keras.ops.conv` turns a dilated convolution into some sixty ops around SpaceToBatchND
    (keras issue 17450). The native op is faster and becomes a single CONV_2D in TFLite, with
    identical results.
    """
    import tensorflow as tf

    # A variable becomes a plain tensor, as custom_gradient requires.
    kernel = tf.convert_to_tensor(kernel)
    if max(dilation_rate) == 1 or on_accelerator() or _has_dilated_gradient(x.dtype.name):
        return tf.nn.conv2d(x, kernel, strides, pads, dilations=dilation_rate)

    # The gradient of tf.nn.convolution is always available and equal. It isn't used everywhere
    # because TensorFlow never frees a graph that was traced with a custom gradient.
    @tf.custom_gradient
    def dilated(x, kernel):
        def gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = tf.nn.convolution(x, kernel, 1, "SAME", dilations=dilation_rate)
            return tape.gradient(y, [x, kernel], upstream)

        return tf.nn.conv2d(x, kernel, 1, "SAME", dilations=dilation_rate), gradient

    return dilated(x, kernel)


@keras.saving.register_keras_serializable("keras_psp")
class SymmetricConv2D(keras.layers.Conv2D):
    """Conv2D with padding of dilation * (kernel_size - 1) / 2 on every side.

    Keras' "same" pads a stride-2 convolution only on the right and bottom, but the published
    PSPNets were trained with symmetric padding.

    Args:
        filters: output channels.
        kernel_size: odd int.
        strides, dilation_rate and others: as in `keras.layers.Conv2D`. Unlike there, strides
            and dilation may be combined if the strides divide the dilation, as in
            mmsegmentation's `d32` models.

    Input:  (batch, height, width, channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), filters).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: Any = 1,
        dilation_rate: Any = 1,
        **kwargs: Any,
    ):
        # Keras refuses strides together with dilation. With both, every tap is on a pixel that
        # the stride keeps: it equals a convolution of every `strides`-th pixel with less dilation.
        self.subsampling = 1
        if np.max(strides) > 1 and np.max(dilation_rate) > 1:
            if np.size(strides) > 1 or np.size(dilation_rate) > 1 or dilation_rate % strides:
                raise ValueError(
                    f"strides={strides} and dilation_rate={dilation_rate} can only be combined "
                    "if both are ints and the strides divide the dilation."
                )
            self.subsampling, strides, dilation_rate = strides, 1, dilation_rate // strides
        kwargs |= {"strides": strides, "dilation_rate": dilation_rate, "padding": "valid"}
        # The matrix products around this layer assume channels last.
        kwargs["data_format"] = "channels_last"
        super().__init__(filters, kernel_size, **kwargs)
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(
                f"kernel_size={kernel_size} is even; symmetric padding needs an odd size."
            )

    def convolution_op(self, inputs: Any, kernel: Any, product: bool = False) -> Any:
        if self.subsampling > 1:
            inputs = inputs[:, :: self.subsampling, :: self.subsampling]
        if max(self.kernel_size) == 1 and (product or keras.backend.backend() == "jax"):
            # Equal in exact arithmetic. On the CPU, XLA's gradient of the convolution's kernel
            # is six times slower than that of the product.
            rows, columns = self.strides
            if max(self.strides) > 1:
                inputs = inputs[:, ::rows, ::columns]
            return ops.matmul(inputs, ops.convert_to_tensor(kernel)[0, 0])
        return convolution(inputs, kernel, strides=self.strides, dilation_rate=self.dilation_rate)

    def torch_gradient(self, x: Any, weights: Sequence[Any], upstream: Any) -> list[Any]:
        """On PyTorch: gradients of the map, the kernel and any bias, without the convolution."""
        import torch

        subsampled = x[:, :: self.subsampling, :: self.subsampling]
        d_x, d_kernel, d_bias = torch.ops.aten.convolution_backward(
            upstream.movedim(-1, 1),
            subsampled.movedim(-1, 1),
            weights[0].permute(3, 2, 0, 1),
            [self.filters],
            self.strides,
            _sides(self.kernel_size, self.dilation_rate),
            self.dilation_rate,
            False,
            [0, 0],
            1,
            [True, True, len(weights) > 1],
        )
        d_x, d_kernel = d_x.movedim(1, -1), d_kernel.permute(2, 3, 1, 0)
        if self.subsampling > 1:
            every = torch.zeros_like(x)
            every[:, :: self.subsampling, :: self.subsampling] = d_x
            d_x = every
        return [d_x, d_kernel, d_bias][: 1 + len(weights)]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        rows, columns = (step * self.subsampling for step in self.strides)
        return (
            batch,
            None if height is None else -(-height // rows),
            None if width is None else -(-width // columns),
            self.filters,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self.subsampling > 1:
            config["strides"] = self.subsampling
            config["dilation_rate"] = self.dilation_rate[0] * self.subsampling
        return config


def freeze_inner(layer: keras.layers.Layer) -> None:
    """Freezes the inner layers of a layer created with `trainable=False`.

    They are created after Keras stores that argument, and on TensorFlow, assigning to a layer
    the value that it already has does nothing.
    """
    if not layer.trainable:
        for inner in layer._layers:
            inner.trainable = False


def store_norm_options(
    layer: keras.layers.Layer, epsilon: Any, momentum: Any, synchronized: Any
) -> None:
    """Stores BatchNorm options in a layer; raises ValueError if they are invalid."""
    layer.epsilon = checked_number("epsilon", epsilon, above=0)
    layer.momentum = checked_number("momentum", momentum, least=0, below=1)
    layer.synchronized = checked_choice("synchronized", synchronized, ("auto", True, False))


def norm_options(layer: keras.layers.Layer) -> dict[str, Any]:
    """The BatchNorm options that a layer stores under the names of `ConvNorm`'s arguments."""
    return {key: getattr(layer, key) for key in ("epsilon", "momentum", "synchronized")}


def synchronizes(synchronized: bool | str) -> bool:
    """Whether replicas share the statistics of BatchNorm.

    "auto" is True if a layer is created under a `tf.distribute` strategy with several replicas.
    (JAX always computes the statistics of the whole global batch.)
    """
    if synchronized != "auto":
        return bool(synchronized)
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync > 1


def batch_normalization(
    *, epsilon: float, momentum: float, synchronized: bool | str, dtype: Any, name: str
) -> keras.layers.BatchNormalization:
    """BatchNormalization that can share its statistics among all replicas, see `synchronizes`."""
    return BatchNormalization(
        epsilon=epsilon,
        momentum=momentum,
        synchronized=synchronizes(synchronized),
        dtype=dtype,
        name=name,
    )


def _with_bias(x, bias):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.bias_add(x, bias)  # the op that graph optimization looks for
    return x + bias


@keras.saving.register_keras_serializable("keras_psp")
class ConvNorm(keras.layers.Layer):
    """Convolution, BatchNorm and ReLU; the last two are optional.

    Args:
        filters: output channels.
        kernel_size: odd int.
        strides: 1 or 2.
        dilation_rate: int.
        activation: whether to apply a ReLU.
        normalize: whether to apply BatchNorm.
        use_bias: whether the convolution has a bias; "auto": only without BatchNorm.
        kernel_initializer: default: He normal over the fan-out, as in semseg/model/resnet.py.
        epsilon: 1e-5 in Caffe and torch (Keras defaults to 1e-3).
        momentum: 0.9, which torch calls 0.1 (Keras defaults to 0.99).
        synchronized: see `synchronizes`.

    Input:  (batch, height, width, channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), filters).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        dilation_rate: int = 1,
        activation: bool = True,
        normalize: bool = True,
        use_bias: bool | Literal["auto"] = "auto",
        kernel_initializer: Any = None,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        synchronized: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.activation = activation
        self.conv = SymmetricConv2D(
            filters,
            kernel_size,
            strides=strides,
            dilation_rate=dilation_rate,
            use_bias=not normalize if use_bias == "auto" else use_bias,
            kernel_initializer=kernel_initializer
            or keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm: Any = None
        if normalize:
            self.norm = batch_normalization(
                epsilon=epsilon,
                momentum=momentum,
                synchronized=synchronized,
                dtype=self.dtype_policy,
                name="norm",
            )
        freeze_inner(self)

    def build(self, input_shape: tuple) -> None:
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, x: Any, training: bool | None = None) -> Any:
        tensors = None if training else folded_tensors(self)
        if tensors is not None:
            x = _with_bias(self.conv.convolution_op(x, tensors[0]), tensors[1])
        elif self.norm is not None and not training:
            x = self._folded(x)
        elif training:
            return self.finish(self.convolve(x, *self.tensors()))
        else:
            x = self.conv(x)
        return ops.relu(x) if self.activation else x

    def tensors(self) -> list[Any]:
        """The convolution's kernel and, if it has one, bias."""
        return [
            ops.cast(variable, self.compute_dtype)
            for variable in (self.conv.kernel, self.conv.bias)
            if variable is not None
        ]

    @property
    def convolve(self) -> Callable[..., Any]:
        """The convolution in training, as a function of a map, the kernel and any bias."""
        product = self._trains_by_product()

        def convolve(x, kernel, bias=None):
            x = self.conv.convolution_op(x, kernel, product=product)
            return x if bias is None else _with_bias(x, bias)

        if keras.backend.backend() == "torch":
            convolve.gradient = self.conv.torch_gradient  # type: ignore[attr-defined]
        return convolve

    def finish(self, x: Any) -> Any:
        """Applies BatchNorm and ReLU to the result of `convolve`, in training."""
        if self.norm is not None:
            x = self.norm(x, training=True)
        return ops.relu(x) if self.activation else x

    def _trains_by_product(self):
        """Whether to train a 1x1 convolution as a matrix product.

        On TensorFlow's CPU this makes a whole step faster under XLA and costs nothing in graph
        mode (benchmarks/results/fusion.md). In inference, exporters and graph optimization look
        for a convolution, and on a GPU a convolution keeps the layout of adjacent layers.
        """
        if max(self.conv.kernel_size) > 1 or keras.backend.backend() != "tensorflow":
            return False
        return not on_accelerator()

    def _folded(self, x):
        """Applies convolution and BatchNorm in one, possible because the statistics are fixed.

        A network runs a tenth faster this way on the CPU, where bias and ReLU become part of
        the convolution.
        """
        norm = self.norm
        variance = ops.convert_to_tensor(norm.moving_variance)
        scale = ops.cast(norm.gamma, variance.dtype) * ops.rsqrt(variance + norm.epsilon)
        shift = norm.moving_mean if self.conv.bias is None else norm.moving_mean - self.conv.bias
        bias = ops.cast(norm.beta, variance.dtype) - ops.cast(shift, variance.dtype) * scale
        kernel = ops.cast(self.conv.kernel, variance.dtype) * scale
        x = self.conv.convolution_op(x, ops.cast(kernel, x.dtype))
        return _with_bias(x, ops.cast(bias, x.dtype))

    def folded_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (rows, columns, channels, filters) and bias with the BatchNorm folded in."""
        return fold(self.conv.kernel, self.conv.bias, self.norm)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return self.conv.compute_output_shape(input_shape)


def in_sequence(
    layers: Sequence[ConvNorm],
    x: Any,
    *,
    training: bool | None,
    chained: bool,
    then: Callable[[Any], Any] | None = None,
) -> Any:
    """Applies the layers one after another, and `then`, which must follow a ReLU.

    If `chained`, training stores only the outputs of the convolutions; those of BatchNorm and ReLU
    are recomputed in the backward pass, unless a BatchNorm is frozen or missing.
    """
    if training and chained and all(layer.norm and layer.norm.is_fused for layer in layers):
        x = layers[0].convolve(x, *layers[0].tensors())
        for layer, following in pairwise(layers):
            x = layer.norm.then(following.convolve, x, *following.tensors())
        return layers[-1].finish(x) if then is None else layers[-1].norm.then(then, x)
    for layer in layers:
        x = layer(x, training=training)
    return x if then is None else then(x)
