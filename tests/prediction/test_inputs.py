from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_psp.prediction.inputs import find_inputs, is_single, safe_stem


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.JPG", "a.png", "deep/c.tiff", "deep/film.MP4", "notes.txt", ".d.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "odd[1].png").touch()
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def names(images, **options):
    return [item.path.name for item in find_inputs(images, **options)]


def test_folders_are_searched_with_subfolders_for_visible_images_and_videos(folder):
    inputs = list(find_inputs(folder))
    assert [item.path.name for item in inputs] == [
        "a.png",
        "b.JPG",
        "c.tiff",
        "film.MP4",
        "odd[1].png",
    ]
    assert [item.is_video for item in inputs] == [False, False, False, True, False]
    assert [item.stem for item in inputs] == ["a", "b", "c", "film", "odd_1_"]


def test_patterns_match_files_unless_a_file_has_that_name(folder, monkeypatch):
    assert names("photos/*.png") == ["a.png", "odd[1].png"]
    assert names("photos/**/*.tif*") == ["c.tiff"]
    # The name of a file is not a pattern.
    assert names("photos/odd[1].png") == ["odd[1].png"]
    monkeypatch.setenv("HOME", str(folder.absolute().parent))
    assert not is_single("~/photos") and names("~/photos/a*") == ["a.png"]
    assert is_single("~nobody_here/a.png")  # whose error comes from opening it
    assert (
        is_single("photos/odd[1].png") and not is_single("photos/*.png") and not is_single(folder)
    )


def test_lists_of_all_kinds_keep_their_order(folder):
    array = np.zeros((4, 5, 3), np.uint8)
    image = Image.new("RGB", (3, 3))
    url = "https://example.org/some%20thing.jpg?x=1"
    inputs = list(find_inputs(["photos/a.png", [array, image], url, b"data", "absent.jpg"]))
    assert [item.origin for item in inputs] == [
        "photos/a.png",
        "image 2",
        "image 3",
        url,
        "image 5",
        "absent.jpg",
    ]
    assert inputs[3].stem == "some thing" and inputs[3].path is None
    assert inputs[1].stem == "photo_0002"
    assert [item.origin for item in find_inputs(np.zeros((2, 4, 5, 3)))] == ["image 1", "image 2"]


@pytest.mark.parametrize("kind", [tf.constant, keras.ops.convert_to_tensor])
def test_tensors_are_taken_as_arrays(kind):
    array = np.zeros((2, 4, 5, 3), np.uint8)
    assert is_single(kind(array[0])) and not is_single(kind(array))
    for images, count in ((kind(array), 2), (kind(array[0]), 1), ([kind(array[0])], 1)):
        inputs = list(find_inputs(images))
        assert len(inputs) == count
        assert all(isinstance(item.source, np.ndarray) for item in inputs)


@pytest.mark.parametrize("mask_shape", [(4, 5), (4, 5, 1)])
def test_images_with_masks_are_refused(mask_shape):
    image, mask = np.zeros((4, 5, 3), np.uint8), np.zeros(mask_shape, np.uint8)
    data = tf.data.Dataset.from_tensors((image, mask))
    for pairs in (data, data.batch(1), [(image, mask)], (image, mask)):
        with pytest.raises(ValueError, match=r"come with masks, as \(image, mask\); give"):
            list(find_inputs(pairs))
    assert len(list(find_inputs([image, mask[..., :1]]))) == 2


def test_the_output_is_not_searched(folder):
    assert names(folder, without=folder / "deep") == ["a.png", "b.JPG", "odd[1].png"]
    assert names("photos/**", without=folder / "deep")[-1] == "odd[1].png"


def test_generators_are_consumed_one_by_one():
    taken = []

    def images():
        for number in range(9):
            taken.append(number)
            yield np.zeros((4, 5, 3))

    inputs = find_inputs(images())
    next(inputs), next(inputs)
    assert taken == [0, 1]


def test_results_of_earlier_predictions_are_not_searched(folder):
    before = list(find_inputs(folder))
    results = folder / "predictions"
    results.mkdir()
    (results / "a_overlay.png").touch()
    assert len(list(find_inputs(folder))) == len(before) + 1
    (results / "predictions.csv").touch()
    assert list(find_inputs(folder)) == before


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("photos/*.gif", r"photos/\*.gif: no file matches this pattern; correct it"),
        ("empty", r"empty: there are no images in this folder or its subfolders; .*\.jpg"),
    ],
)
def test_a_folder_or_pattern_without_images_is_reported(folder, images, message):
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=message):
        list(find_inputs(images))


def test_stems_are_valid_on_every_system():
    assert safe_stem("a/b:c*?") == "a_b_c__"
    assert safe_stem("...") == "photo"
    assert len(safe_stem("x" * 400)) == 100
    assert safe_stem("Häuser (2)") == "Häuser (2)"
