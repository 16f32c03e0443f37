import numpy as np
import pytest

from keras_psp.visual.bands import viewable
from keras_psp.visual.overlays import overlay

RNG = np.random.default_rng(0)


def test_rgb_is_rounded_and_clipped():
    image = np.array([[[-3.0, 1.6, 300.0]]])
    np.testing.assert_array_equal(viewable(image), [[[0, 2, 255]]])


def test_the_first_three_bands_are_red_green_and_blue():
    image = RNG.integers(0, 256, (4, 5, 6), "uint8")
    np.testing.assert_array_equal(viewable(image), image[..., :3])


@pytest.mark.parametrize("bands", [1, 2])
def test_the_first_of_two_bands_is_gray(bands):
    image = RNG.integers(0, 256, (4, 5, bands), "uint8")
    np.testing.assert_array_equal(viewable(image), np.repeat(image[..., :1], 3, axis=-1))


def test_other_types_are_stretched():
    image = np.arange(101, dtype="uint16").reshape(101, 1, 1) * 90
    shown = viewable(image)[:, 0, 0]
    # The percentiles are 180 and 8820, which become 0 and 255.
    assert (shown[:3] == 0).all() and (shown[-3:] == 255).all()
    assert shown[50] == round(255 * (4500 - 180) / (8820 - 180))
    with np.errstate(all="raise"):
        assert viewable(np.full((3, 3, 1), 7.0)).max() == 0  # nothing to stretch


def test_overlays_take_any_bands():
    image = RNG.integers(0, 9000, (8, 9, 4), "uint16")
    mask = np.zeros((8, 9), int)
    shown = overlay(image, mask, [[255, 0, 0]], alpha=0.5)
    assert shown.shape == (8, 9, 3) and (shown[..., 0] >= 127).all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"image has shape \(4, 5\); it must be"):
        viewable(np.zeros((4, 5)))
