import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.prediction import Confidence, Prediction

NAMES = ("sky", "road", "car")
PALETTE = ((250, 0, 0), (0, 200, 0), (0, 0, 150))


def example():
    classes = np.array([[2, 2, 2, 2], [2, 2, 0, 0]], np.uint8)
    image = np.full((2, 4, 3), 100, np.uint8)
    return Prediction(image, classes, NAMES, np.array(PALETTE, np.uint8), "a", "b/a.png")


def test_shares_by_hand():
    prediction = example()
    assert prediction.class_shares.tolist() == [0.25, 0, 0.75]
    assert list(prediction.shares.items()) == [("car", 0.75), ("sky", 0.25)]
    assert repr(prediction) == "<Prediction of b/a.png, 4x2: car 75.0%, sky 25.0%>"


def test_saved_files_contain_the_classes(tmp_path):
    prediction = example()
    paths = prediction.save(tmp_path / "new")
    assert [path.name for path in paths] == ["a_overlay.png", "a_classes.png"]
    with Image.open(paths[1]) as image_file:
        assert image_file.mode == "P"
        np.testing.assert_array_equal(np.asarray(image_file), prediction.classes)
        assert tuple(image_file.getpalette()[:9]) == sum(PALETTE, ())
    with Image.open(paths[0]) as image_file:
        np.testing.assert_array_equal(np.asarray(image_file), np.asarray(prediction.overlay()))
    with pytest.raises(FileExistsError, match=r"a_overlay.png exists; .* force=True to replace"):
        prediction.save(tmp_path / "new")
    prediction.save(tmp_path / "new", force=True, suffix=".jpg")
    assert (tmp_path / "new" / "a_overlay.jpg").exists()
    with pytest.raises(ValueError, match=r"suffix is 'jpg'; it must be that of an image file"):
        prediction.save(tmp_path / "other", suffix="jpg")
    assert not (tmp_path / "other").exists()


def test_more_than_256_classes_are_saved_with_16_bits_and_have_colors(tmp_path):
    model = SimpleNamespace(num_classes=300, class_names=None, palette=None)
    assert palette_of(model).shape == (300, 3)
    assert class_names_of(model)[299] == "class 299"
    classes = np.array([[299, 255]], np.uint16)
    image = np.zeros((1, 2, 3), np.uint8)
    prediction = Prediction(image, classes, class_names_of(model), palette_of(model))
    _, path = prediction.save(tmp_path)
    with Image.open(path) as image_file:
        assert path.read_bytes()[24] == 16  # bits per sample; Pillow's modes for them changed
        assert np.asarray(image_file).tolist() == [[299, 255]]


def test_notebooks_show_a_png_of_limited_size():
    image = np.zeros((1500, 2000, 3), np.uint8)
    prediction = Prediction(image, image[..., 0], NAMES, np.array(PALETTE))
    data = prediction._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert max(Image.open(io.BytesIO(data)).size) == 1000


def test_confidence_is_saved_as_a_picture_and_16_bit_maps(tmp_path):
    half = np.full((2, 4), 0.5, np.float32)
    prediction = dataclasses.replace(example(), confidence=Confidence(half, half, half, half))
    paths = prediction.save(tmp_path)
    names = ("confidence", "probability", "margin", "entropy", "disagreement")
    assert [path.name for path in paths[2:]] == [f"a_{name}.png" for name in names]
    with Image.open(tmp_path / "a_margin.png") as image_file:
        assert np.asarray(image_file).tolist() == [[32768] * 4] * 2
