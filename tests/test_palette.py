import itertools

import numpy as np
import pytest
from PIL import Image, ImageCms

from keras_psp.palette import VOID_COLOR, checked_palette
from keras_psp.visual import default_palette

# Vienot, Brettel and Mollon 1999, for linear RGB, as in DaltonLens. The palette was computed
# with a different simulation.
PROTANOPIA = ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1))
DEUTERANOPIA = ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1))


def seen(colors, matrix):
    """CIELAB of sRGB colors, by Little CMS, after a matrix applied to linear RGB."""
    encoded = np.asarray(colors) / 255
    light = np.where(encoded < 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.transpose(matrix), 0, 1)
    encoded = np.where(light < 0.00313, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    image = Image.fromarray(np.rint(255 * encoded[None]).astype(np.uint8))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = np.asarray(ImageCms.profileToProfile(image, *profiles, outputMode="LAB"))[0]
    signed = lab[:, 1:].astype(np.uint8).view(np.int8)  # Pillow's a and b
    return np.column_stack([lab[:, 0] / 2.55, signed])


@pytest.mark.parametrize(
    ("num_classes", "normal", "dichromatic"),
    [(2, 60, 40), (5, 50, 30), (11, 35, 20), (21, 23, 12), (60, 12, 5), (150, 7, 1)],
)
def test_colors_are_distinct_also_with_color_blindness(num_classes, normal, dichromatic):
    # 2.3 is a just noticeable difference (Mahy 1994).
    colors = [*default_palette(num_classes), np.array(VOID_COLOR)]
    for matrix, least in (
        (np.eye(3), normal),
        (PROTANOPIA, dichromatic),
        (DEUTERANOPIA, dichromatic),
    ):
        lab = seen(colors, matrix)
        nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
        assert nearest >= least


def test_all_colors_differ():
    assert len(np.unique(default_palette(256), axis=0)) == 256


def test_smaller_palette_is_the_start_of_a_larger_one():
    np.testing.assert_array_equal(default_palette(5), default_palette(150)[:5])


def test_palette_is_a_copy():
    default_palette(3)[:] = 0
    assert default_palette(3).any()
    assert default_palette(3).dtype == np.uint8


@pytest.mark.parametrize("num_classes", [0, -1, 257, 2.0, True, None])
def test_invalid_num_classes_raises(num_classes):
    with pytest.raises(ValueError, match=f"num_classes is {num_classes}; .* 1 to 256"):
        default_palette(num_classes)


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ([1, 2, 3], r"shape \(3,\); it must be \(num_classes, 3\)"),
        ([[1, 2, 3, 4]], r"shape \(1, 4\)"),
        (np.zeros((0, 3), int), r"shape \(0, 3\)"),
        ([[0.1, 0.2, 0.3]], "dtype float64; colors must be integers"),
        ([[0, 0, 256]], "from 0 to 256; colors must be from 0 to 255"),
        ([[0, -1, 0]], "from -1 to 0"),
    ],
)
def test_invalid_palettes_raise(palette, message):
    with pytest.raises(ValueError, match=message):
        checked_palette(palette)
