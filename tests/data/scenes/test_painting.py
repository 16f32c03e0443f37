import numpy as np
import pytest

from keras_psp.data import scenes


def class_id(name):
    return scenes.CLASS_NAMES.index(name)


def forced(seed, surface, skyline, image_size=(128, 128)):
    image, mask = scenes.scene(seed, image_size=image_size, surface=surface, skyline=skyline)
    return image.astype(int), mask


def dilated(where, pixels):
    """True within a square of 2 * pixels + 1 about each True."""
    padded = np.pad(where, pixels)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * pixels + 1,) * 2)
    return windows.any((-1, -2))


@pytest.mark.parametrize("size", [(128, 128), (64, 96), (200, 256)])
def test_a_hull_and_its_neighborhood_are_equal_in_both_contexts(size):
    margin = round(0.1 * min(size))
    compared = 0
    for seed in range(12):
        image, mask = forced(seed, "water", "city", size)
        other_image, other_mask = forced(seed, "road", "city", size)
        hull = mask == class_id("boat")
        np.testing.assert_array_equal(hull, other_mask == class_id("car"))
        assert not (mask == class_id("car")).any()
        assert not (other_mask == class_id("boat")).any()
        near = dilated(hull, margin)
        np.testing.assert_array_equal(image[near], other_image[near])
        np.testing.assert_array_equal(mask[near & ~hull], other_mask[near & ~hull])
        if hull.any():
            compared += 1
            assert np.mean(np.any(image != other_image, -1)) > 0.08
    assert compared >= 4


@pytest.mark.parametrize("size", [(128, 128), (64, 96), (200, 256)])
def test_a_tower_and_its_neighborhood_are_equal_in_both_contexts(size):
    margin = round(0.15 * min(size))
    compared = 0
    for seed in range(12):
        image, mask = forced(seed, "road", "village", size)
        other_image, other_mask = forced(seed, "road", "city", size)
        tower = mask == class_id("building")
        np.testing.assert_array_equal(tower, other_mask == class_id("skyscraper"))
        assert not (mask == class_id("skyscraper")).any()
        near = dilated(tower, margin)
        np.testing.assert_array_equal(image[near], other_image[near])
        np.testing.assert_array_equal(mask[near & ~tower], other_mask[near & ~tower])
        if tower.any():
            compared += 1
            assert np.mean(np.any(image != other_image, -1)) > 0.01
    assert compared >= 3


def test_only_the_surface_differs_between_the_kinds():
    for seed in range(8):
        image, mask = forced(seed, "water", "city")
        other_image, other_mask = forced(seed, "road", "city")
        surface = np.isin(mask, (class_id("water"), class_id("road"), 255))
        # Slivers of surface may be all border, and the blur spreads one pixel.
        changed = np.any(image != other_image, -1)
        assert not (changed & ~dilated(surface, 1)).any()
