import itertools

import numpy as np
import pytest

from keras_psp.visual import default_palette
from keras_psp.visual.palette import VOID_COLOUR, checked_palette


@pytest.mark.parametrize(
    ("num_classes", "least"), [(2, 150), (11, 80), (21, 60), (150, 15), (256, 10)]
)
def test_colours_keep_their_distance_from_each_other_and_from_void(num_classes, least):
    # Plain RGB distance (of 442), not the Oklab one the colours were chosen by.
    colours = [*default_palette(num_classes).astype(int), np.array(VOID_COLOUR)]
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2))
    assert nearest >= least


def test_a_smaller_palette_begins_a_larger_one():
    np.testing.assert_array_equal(default_palette(5), default_palette(150)[:5])


def test_the_palette_is_the_callers_own():
    default_palette(3)[:] = 0
    assert default_palette(3).any()
    assert default_palette(3).dtype == np.uint8


@pytest.mark.parametrize("num_classes", [0, -1, 257, 2.0, True, None])
def test_wrong_number_of_classes_is_named(num_classes):
    with pytest.raises(ValueError, match=f"num_classes is {num_classes}; .* 1 to 256"):
        default_palette(num_classes)


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ([1, 2, 3], r"shape \(3,\); it must be \(num_classes, 3\)"),
        ([[1, 2, 3, 4]], r"shape \(1, 4\)"),
        (np.zeros((0, 3), int), r"shape \(0, 3\)"),
        ([[0.1, 0.2, 0.3]], "dtype float64; colours must be integers"),
        ([[0, 0, 256]], "from 0 to 256; colours must be from 0 to 255"),
        ([[0, -1, 0]], "from -1 to 0"),
    ],
)
def test_wrong_palettes_are_named(palette, message):
    with pytest.raises(ValueError, match=message):
        checked_palette(palette)
