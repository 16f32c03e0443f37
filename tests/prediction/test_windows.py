import numpy as np
import pytest

from keras_psp.prediction.windows import Axis, resize_taps, resized, scaled_size


def test_scaled_size_rounds_like_the_authors_code():
    assert scaled_size(375, 500, 0.5, 512) == (192, 256)
    assert scaled_size(500, 375, 1.75, 512) == (896, 672)
    assert scaled_size(333, 333, 1.0, None) == (333, 333)
    assert scaled_size(1, 900, 0.5, 512) == (1, 256)


def test_windows_cover_the_image():
    axis = Axis(500, 473, 1 / 3)
    assert (axis.starts, axis.before, axis.padded) == ([0, 27], 0, 500)
    axis = Axis(300, 473, 1 / 3)
    assert (axis.starts, axis.before, axis.padded) == ([0], 86, 473)
    assert Axis(2048, 713, 1 / 3).starts == [0, 476, 952, 1335]
    assert Axis(465 + 310, 465, 1 / 3).starts == [0, 310]
    window, pixel, share = Axis(500, 473, 1 / 3).windows_of(np.array([0, 30, 499]))
    np.testing.assert_allclose(share.sum(axis=0), 1)
    np.testing.assert_array_equal(share[:, 1], 0.5)
    assert {(int(w), int(p)) for w, p in zip(window[:, 1], pixel[:, 1], strict=True)} == {
        (0, 30),
        (1, 3),
    }


def test_resize_taps_of_equal_sizes_keep_everything():
    first, second, share = resize_taps(7, 7)
    np.testing.assert_allclose(first + share * (second - first), np.arange(7))
    assert resize_taps(1, 3)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [(37, 52), (90, 20), (13, 121), (90, 121)])
def test_antialiasing_averages_as_tensorflow_does(size):
    tf = pytest.importorskip("tensorflow")
    image = np.random.default_rng(0).uniform(0, 255, (90, 121, 3)).astype("float32")
    expected = tf.image.resize(image, size, antialias=True)
    np.testing.assert_allclose(resized(image, size, antialias=True), expected, atol=2e-3)
