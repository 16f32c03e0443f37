import keras
import numpy as np
import pytest

from keras_psp.layers.winograd import (
    OUTPUTS,
    axis,
    kernel_matrix,
    pays,
    tile_matrices,
    winograd_convolution,
)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_one_tile_is_a_convolution_with_three_taps(outputs):
    inputs, weights, output = tile_matrices(outputs)
    x, kernel = np.arange(outputs + 2.0) ** 2, np.array([2.0, -1.0, 5.0])
    expected = [2 * x[i] - x[i + 1] + 5 * x[i + 2] for i in range(outputs)]
    np.testing.assert_allclose(output @ ((weights @ kernel) * (inputs @ x)), expected, rtol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3, 5, 16, 31, 60, 64])
def test_an_axis_is_a_zero_padded_dilated_convolution(size, dilation):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=size), rng.normal(size=3)
    inputs, weights, outputs = axis(size, dilation)
    products = (weights @ kernel)[:, None] * (inputs @ x)
    result = outputs.reshape(size, -1) @ products.ravel()
    padded = np.pad(x, dilation)
    expected = sum(kernel[tap] * padded[tap * dilation :][:size] for tap in range(3))
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_an_axis_has_the_tiles_that_need_fewer_multiplications():
    # 60 pixels: 12 tiles of 5 outputs and 7 multiplications, not 15 of 4 and 6.
    assert axis(60, 1).inputs.shape == (7, 12, 60)
    # 16 pixels: 4 tiles of 4 outputs, since 5 would need as many tiles.
    assert axis(16, 1).inputs.shape == (6, 4, 16)
    # 60 pixels with dilation 4 are 4 times 15 pixels.
    assert axis(60, 4).inputs.shape == (7, 4 * 3, 60)


def test_two_dimensions():
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(9, 7)), rng.normal(size=(3, 3))
    rows, columns = axis(9, 2), axis(7, 2)
    weights = kernel_matrix(rows, columns) @ kernel.ravel()  # (columns, rows)
    tiles = np.einsum("rty,cux,yx->crtu", rows.inputs, columns.inputs, image)
    products = weights[..., None, None] * tiles
    result = np.einsum("yrt,xcu,crtu->yx", rows.outputs, columns.outputs, products)
    padded = np.pad(image, 2)
    expected = sum(
        kernel[i, j] * padded[2 * i :, 2 * j :][:9, :7] for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_it_pays_for_many_channels_and_large_maps():
    assert pays((3, 3, 256, 256), (60, 60), 1, 2)
    assert not pays((3, 3, 128, 256), (60, 60), 1, 2)  # too few channels
    assert not pays((1, 1, 512, 512), (60, 60), 1, 1)
    assert not pays((3, 3, 512, 512), (60, 60), 2, 1)
    # Two pixels per axis and offset: (6 of 2 * 3 multiplications) twice.
    assert not pays((3, 3, 512, 512), (8, 8), 1, 4)


@pytest.mark.parametrize("batch", [1, 2, None])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_it_is_the_convolution_for_all_batches_dilations_and_sides(dilation, batch):
    rng = np.random.default_rng(dilation)
    height, width, channels = 19, 26, 256
    x = rng.normal(size=(batch or 3, height, width, channels)).astype("float32")
    kernel = rng.normal(size=(3, 3, channels, channels)).astype("float32")

    def convolve(x):
        return winograd_convolution(x, kernel, 1, dilation)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        spec = tf.TensorSpec((batch, height, width, channels))
        convolve = tf.function(convolve, input_signature=[spec])
    result = keras.ops.convert_to_numpy(convolve(keras.ops.convert_to_tensor(x)))
    # The sum over taps of shifted maps, in float64.
    padded = np.pad(x.astype("float64"), [(0, 0), (dilation,) * 2, (dilation,) * 2, (0, 0)])
    expected = 0
    for i in range(3):
        for j in range(3):
            part = padded[:, i * dilation :, j * dilation :][:, :height, :width]
            expected = expected + part.reshape(-1, channels) @ kernel[i, j].astype("float64")
    assert np.abs(result - expected.reshape(x.shape)).max() < 2e-5 * np.ptp(expected)


def test_it_leaves_what_would_not_pay():
    x = np.zeros((1, 16, 16, 256), "float32")
    assert winograd_convolution(x, np.zeros((3, 3, 256, 256), "float32"), 1, 1) is not None
    for shape, stride in (((1, 1, 256, 256), 1), ((3, 3, 256, 255), 1), ((3, 3, 256, 256), 2)):
        assert winograd_convolution(x, np.zeros(shape, "float32"), stride, 1) is None
    any_height = keras.KerasTensor((1, None, 16, 256))
    assert winograd_convolution(any_height, np.zeros((3, 3, 256, 256), "float32"), 1, 1) is None
