import numpy as np
import pytest

from keras_psp.export.winograd_tensorflow import winograd_convolution

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("batch", [1, 2, None])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_it_is_the_convolution_for_all_batches_dilations_and_sides(dilation, batch):
    rng = np.random.default_rng(dilation)
    height, width, channels = 19, 26, 256
    x = rng.normal(size=(batch or 3, height, width, channels)).astype("float32")
    kernel = rng.normal(size=(3, 3, channels, channels)).astype("float32")
    spec = tf.TensorSpec((batch, height, width, channels))
    result = tf.function(
        lambda x: winograd_convolution(x, kernel, 1, dilation), input_signature=[spec]
    )(x)
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
    results = []

    def of_any_height(x):
        results.append(winograd_convolution(x, np.zeros((3, 3, 256, 256), "float32"), 1, 1))
        return x

    tf.function(of_any_height).get_concrete_function(tf.TensorSpec((1, None, 16, 256)))
    assert results == [None]
