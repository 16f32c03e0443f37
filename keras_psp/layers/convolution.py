"""Convolutions padded symmetrically, as Caffe and torch pad, and their BatchNorm."""

import functools

import keras
import numpy as np
from keras import ops

from keras_psp.layers.folding import fold, folded_tensors


@functools.cache
def _has_dilated_gradient(dtype):
    """Whether TensorFlow's CPU has the gradient of a dilated conv2d, as with oneDNN in float32."""
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


def _tensorflow_convolution(x, kernel, strides, dilation_rate, padding):
    """One native convolution op on TensorFlow.

    `keras.ops.conv` turns a dilated convolution into some sixty ops around
    SpaceToBatchND (keras issue 17450); the native op is one, faster, and becomes one
    CONV_2D in TFLite with identical numbers.
    """
    import tensorflow as tf

    # Reads a variable: custom_gradient wants plain tensors.
    kernel = tf.convert_to_tensor(kernel)
    # "SAME" is already symmetric at stride 1, and is what every kernel supports.
    pads = "SAME" if max(strides) == 1 else [[0, 0], [padding[0]] * 2, [padding[1]] * 2, [0, 0]]
    if (
        max(dilation_rate) == 1
        or tf.config.list_physical_devices("GPU")
        or _has_dilated_gradient(x.dtype.name)
    ):
        return tf.nn.conv2d(x, kernel, strides, pads, dilations=dilation_rate)

    # tf.nn.convolution's gradient exists always and is equal. Not everywhere: TensorFlow
    # keeps every graph that was traced with a custom gradient, and its weights, for good.
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
    """Conv2D padded by dilation * (kernel_size - 1) / 2 on every side.

    Keras' "same" pads a stride-2 convolution on the right and bottom only; the
    published PSPNets were trained with symmetric padding.

    Args:
        filters: output channels.
        kernel_size: odd int.
        strides, dilation_rate and the rest: as in `keras.layers.Conv2D`; both together
            where the strides divide the dilation, as in mmsegmentation's `d32` models.

    Input:  (batch, height, width, channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), filters).
    """

    def __init__(self, filters, kernel_size, *, strides=1, dilation_rate=1, **kwargs):
        # With both, every tap falls on a pixel that the stride keeps: the same as an
        # undilated convolution of every second pixel. Keras refuses to do both.
        self._subsampling = 1
        if np.max(strides) > 1 and np.max(dilation_rate) > 1:
            if np.size(strides) > 1 or np.size(dilation_rate) > 1 or dilation_rate % strides:
                raise ValueError(
                    f"strides={strides} and dilation_rate={dilation_rate}: together they must be "
                    "ints, and the strides divide the dilation."
                )
            self._subsampling, strides, dilation_rate = strides, 1, dilation_rate // strides
        kwargs |= {"strides": strides, "dilation_rate": dilation_rate}
        kwargs["padding"] = "valid"
        # The matrix products around this layer are written for channels last.
        kwargs["data_format"] = "channels_last"
        super().__init__(filters, kernel_size, **kwargs)
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(
                f"kernel_size={kernel_size} is even; symmetric padding needs an odd size."
            )

    def convolution_op(self, inputs, kernel, product=False):
        if self._subsampling > 1:
            inputs = inputs[:, :: self._subsampling, :: self._subsampling]
        padding = [
            dilation * (size - 1) // 2
            for dilation, size in zip(self.dilation_rate, self.kernel_size, strict=True)
        ]
        if max(self.kernel_size) == 1 and (product or keras.backend.backend() == "jax"):
            # The same in exact arithmetic, and XLA's gradient of the convolution's kernel is six
            # times slower on the CPU.
            rows, columns = self.strides
            return ops.matmul(inputs[:, ::rows, ::columns], ops.convert_to_tensor(kernel)[0, 0])
        if keras.backend.backend() == "tensorflow":
            return _tensorflow_convolution(
                inputs, kernel, self.strides, self.dilation_rate, padding
            )
        same = max(self.strides) == 1
        if not same and max(padding) > 0:
            inputs = ops.pad(inputs, [[0, 0], [padding[0]] * 2, [padding[1]] * 2, [0, 0]])
        return ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding="same" if same else "valid",
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        rows, columns = (step * self._subsampling for step in self.strides)
        return (
            batch,
            None if height is None else -(-height // rows),
            None if width is None else -(-width // columns),
            self.filters,
        )

    def get_config(self):
        config = super().get_config()
        if self._subsampling > 1:
            config["strides"] = self._subsampling
            config["dilation_rate"] = self.dilation_rate[0] * self._subsampling
        return config


def freeze_inner(layer):
    """Freeze the layers inside one that was made with `trainable=False`.

    They are made after Keras stores that argument, and assigning the value a layer has
    already does nothing on TensorFlow.
    """
    if not layer.trainable:
        for inner in layer._layers:
            inner.trainable = False


def batch_normalization(*, epsilon, momentum, synchronized, dtype, name):
    """BatchNormalization whose statistics are shared by all replicas where there are several.

    Args:
        synchronized: True, False, or "auto": synchronised if the layer is made under a
            `tf.distribute` strategy of several replicas. (JAX computes the statistics
            of the whole global batch by itself.)
    """
    if synchronized == "auto":
        synchronized = False
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return keras.layers.BatchNormalization(
        epsilon=epsilon, momentum=momentum, synchronized=synchronized, dtype=dtype, name=name
    )


def _with_bias(x, bias):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.bias_add(x, bias)  # what graph optimisation looks for
    return x + bias


@keras.saving.register_keras_serializable("keras_psp")
class ConvNorm(keras.layers.Layer):
    """Convolution, BatchNorm and ReLU, unless told otherwise.

    Args:
        filters: output channels.
        kernel_size: odd int.
        strides: 1 or 2.
        dilation_rate: int.
        activation: whether a ReLU follows.
        normalize: whether BatchNorm follows.
        use_bias: whether the convolution has a bias; "auto" gives it one where no
            BatchNorm follows.
        kernel_initializer: He normal over the fan-out, as in semseg/model/resnet.py.
        epsilon: 1e-5 in Caffe and torch (Keras' own default is 1e-3).
        momentum: 0.9 is torch's 0.1 (Keras' own default is 0.99).
        synchronized: see `batch_normalization`.

    Input:  (batch, height, width, channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), filters).
    """

    def __init__(
        self,
        filters,
        kernel_size,
        *,
        strides=1,
        dilation_rate=1,
        activation=True,
        normalize=True,
        use_bias="auto",
        kernel_initializer=None,
        epsilon=1e-5,
        momentum=0.9,
        synchronized="auto",
        **kwargs,
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
        self.norm = None
        if normalize:
            self.norm = batch_normalization(
                epsilon=epsilon,
                momentum=momentum,
                synchronized=synchronized,
                dtype=self.dtype_policy,
                name="norm",
            )
        freeze_inner(self)

    def build(self, input_shape):
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.conv.compute_output_shape(input_shape))
        self.built = True

    def call(self, x, training=None):
        tensors = None if training else folded_tensors(self)
        if tensors is not None:
            x = _with_bias(self.conv.convolution_op(x, tensors[0]), tensors[1])
        elif self.norm is not None and not training:
            x = self._folded(x)
        else:
            x = self._product(x) if training and self._trains_by_product() else self.conv(x)
            if self.norm is not None:
                x = self.norm(x, training=training)
        return ops.relu(x) if self.activation else x

    def _trains_by_product(self):
        """Whether a 1x1 convolution is a matrix product in training.

        On TensorFlow's CPU a whole step is faster by that under XLA, and unchanged in graph mode
        (benchmarks/results/fusion.md). For inference it stays what exporters and graph
        optimisation look for, and on a GPU it keeps the layout of its neighbours.
        """
        if max(self.conv.kernel_size) > 1 or keras.backend.backend() != "tensorflow":
            return False
        import tensorflow as tf

        return not tf.config.list_physical_devices("GPU")

    def _product(self, x):
        x = self.conv.convolution_op(x, self.conv.kernel, product=True)
        return x if self.conv.bias is None else _with_bias(x, self.conv.bias)

    def _folded(self, x):
        """Both as one convolution, as is possible once the statistics stand still.

        A network then runs a tenth faster on the CPU, where bias and ReLU become part of
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

    def folded_weights(self):
        """Kernel (rows, columns, channels, filters) and bias with the BatchNorm in them, numpy."""
        return fold(self.conv.kernel, self.conv.bias, self.norm)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)
