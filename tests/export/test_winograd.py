import numpy as np
import pytest

from keras_psp.export.winograd import (
    INPUT,
    OUTPUT,
    OUTPUTS,
    WEIGHTS,
    axis_matrices,
    kernel_matrix,
)


def test_one_tile_is_a_convolution_with_three_taps():
    x, kernel = np.arange(6.0) ** 2, np.array([2.0, -1.0, 5.0])
    expected = [2 * x[i] - x[i + 1] + 5 * x[i + 2] for i in range(OUTPUTS)]
    np.testing.assert_allclose(OUTPUT @ ((WEIGHTS @ kernel) * (INPUT @ x)), expected, rtol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3, 5, 16, 31, 60])
def test_an_axis_is_a_zero_padded_dilated_convolution(size, dilation):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=size), rng.normal(size=3)
    inputs, outputs = axis_matrices(size, dilation)
    products = (WEIGHTS @ kernel)[:, None] * (inputs @ x)
    result = outputs.reshape(size, -1) @ products.ravel()
    padded = np.pad(x, dilation)
    expected = sum(kernel[tap] * padded[tap * dilation :][:size] for tap in range(3))
    np.testing.assert_allclose(result, expected, atol=1e-13)


def test_two_dimensions():
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(9, 7)), rng.normal(size=(3, 3))
    (rows_in, rows_out), (columns_in, columns_out) = axis_matrices(9, 2), axis_matrices(7, 2)
    weights = kernel_matrix() @ kernel.ravel()  # (columns, rows)
    tiles = np.einsum("rty,cux,yx->crtu", rows_in, columns_in, image)
    result = np.einsum("yrt,xcu,crtu->yx", rows_out, columns_out, weights[..., None, None] * tiles)
    padded = np.pad(image, 2)
    expected = sum(
        kernel[i, j] * padded[2 * i :, 2 * j :][:9, :7] for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(result, expected, atol=1e-12)
