import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_psp.layers.convolution import ConvNorm, SymmetricConv2D, _has_dilated_gradient


def reference(x, kernel, stride, dilation):
    """Pad symmetrically, then convolve at every position, in float64 loops over taps."""
    size = kernel.shape[0]
    pad = dilation * (size - 1) // 2
    x = np.pad(x.astype("float64"), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = (n - dilation * (size - 1) for n in x.shape[1:3])
    total = 0
    for i in range(size):
        for j in range(size):
            rows = slice(i * dilation, i * dilation + height, stride)
            columns = slice(j * dilation, j * dilation + width, stride)
            total = total + x[:, rows, columns] @ kernel[i, j].astype("float64")
    return total


@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(7, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 4), (1, 2, 1)]
)
@pytest.mark.parametrize("shape", [(12, 16), (13, 9)])
def test_padding_is_symmetric(size, stride, dilation, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape, 3)).astype("float32")
    layer = SymmetricConv2D(
        4, size, strides=stride, dilation_rate=dilation, use_bias=False, name="conv"
    )
    actual = layer(x)
    expected = reference(x, layer.kernel.numpy(), stride, dilation)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == expected.shape


def test_even_kernel_size_raises():
    with pytest.raises(ValueError, match="kernel_size=4 is even; symmetric padding needs an odd"):
        SymmetricConv2D(3, 4)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dilated_convolution_is_one_op_with_an_equal_gradient(dtype):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(1, 9, 11, 3)), dtype)
    layer = SymmetricConv2D(4, 3, dilation_rate=2, use_bias=False, dtype=dtype)
    layer.build(x.shape)
    kernel = layer.kernel.value

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function(x) ** 2)
        return tape.gradient(loss, [x, kernel])

    usual = gradients(lambda x: tf.nn.convolution(x, kernel, padding="SAME", dilations=2))
    for actual, expected in zip(gradients(layer), usual, strict=True):
        np.testing.assert_allclose(
            tf.cast(actual, "float32"), tf.cast(expected, "float32"), rtol=1e-2, atol=1e-2
        )
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, None, None, 3), dtype))
    assert "SpaceToBatch" not in str(graph.graph.as_graph_def())


def test_conv_norm_equals_its_parts_in_sequence():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    layer = ConvNorm(5, 3)
    actual = layer(x)
    expected = keras.ops.relu(layer.norm(layer.conv(x)))
    np.testing.assert_allclose(actual, expected, atol=2e-6)
    assert (layer.norm.epsilon, layer.norm.momentum) == (1e-5, 0.9)
    assert layer.conv.bias is None


@pytest.mark.parametrize("use_bias", [False, True])
def test_inference_equals_convolution_then_batch_norm(use_bias):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 7, 3)).astype("float32")
    layer = ConvNorm(4, 3, use_bias=use_bias, activation=False)
    layer.build(x.shape)
    for variable in layer.variables:
        if variable.dtype == "float32":
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
    norm, bias = layer.norm, layer.conv.bias.numpy() if use_bias else 0.0
    mean, variance, gamma, beta = (
        v.numpy() for v in (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta)
    )
    plain = reference(x, layer.conv.kernel.numpy(), 1, 1) + bias
    expected = (plain - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta
    np.testing.assert_allclose(layer(x, training=False), expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(layer(x), layer(x, training=False))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
def test_traced_convolution_does_not_keep_its_graph_alive():
    if not _has_dilated_gradient("float32"):
        pytest.skip("TensorFlow has no native gradient of dilated convolutions here")
    layer = SymmetricConv2D(2, 3, dilation_rate=2)
    layer.build((None, None, None, 2))
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec((1, 9, 9, 2)))
    graph = weakref.ref(traced.graph)
    del traced
    gc.collect()
    # A custom gradient would keep the graph and the weights that it reads alive.
    assert graph() is None


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs TensorFlow")
@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="needs a CPU")
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("use_bias", [False, True])
def test_1x1_convolution_trains_as_a_matrix_product(strides, use_bias, monkeypatch):
    import tensorflow as tf

    layer = ConvNorm(3, 1, strides=strides, use_bias=use_bias)
    x = tf.constant(np.random.default_rng(0).standard_normal((2, 7, 6, 4)), "float32")
    layer.build(x.shape)
    layer.conv.kernel.assign(np.random.default_rng(1).standard_normal((1, 1, 4, 3)))
    if use_bias:
        layer.conv.bias.assign([0.5, -1.0, 2.0])

    def trained():
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
            energy = tf.reduce_sum(y**2)
        return y, tape.gradient(energy, [v.value for v in layer.trainable_variables])

    def operations(training):
        function = tf.function(lambda: layer(x, training=training), autograph=False)
        return {op.type for op in function.get_concrete_function().graph.get_operations()}

    assert "Conv2D" not in operations(training=True)
    assert "Conv2D" in operations(training=False)
    actual = tf.nest.flatten(trained())
    monkeypatch.setattr(ConvNorm, "_trains_by_product", lambda self: False)
    assert "Conv2D" in operations(training=True)
    for value, expected in zip(actual, tf.nest.flatten(trained()), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
