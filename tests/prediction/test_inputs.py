from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_psp.prediction.inputs import find_inputs, is_one, safe_stem


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.JPG", "a.png", "deep/c.tiff", "deep/film.MP4", "notes.txt", ".d.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "odd[1].png").touch()
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def names(photos, **options):
    return [item.path.name for item in find_inputs(photos, **options)]


def test_folders_are_read_to_their_depth_without_hidden_and_other_files(folder):
    found = list(find_inputs(folder))
    assert [item.path.name for item in found] == [
        "a.png",
        "b.JPG",
        "c.tiff",
        "film.MP4",
        "odd[1].png",
    ]
    assert [item.is_video for item in found] == [False, False, False, True, False]
    assert [item.stem for item in found] == ["a", "b", "c", "film", "odd_1_"]


def test_patterns(folder, monkeypatch):
    assert names("photos/*.png") == ["a.png", "odd[1].png"]
    assert names("photos/**/*.tif*") == ["c.tiff"]
    # A file of that very name is no pattern.
    assert names("photos/odd[1].png") == ["odd[1].png"]
    monkeypatch.setenv("HOME", str(folder.absolute().parent))
    assert not is_one("~/photos") and names("~/photos/a*") == ["a.png"]
    assert is_one("photos/odd[1].png") and not is_one("photos/*.png") and not is_one(folder)


def test_lists_of_everything_in_their_order(folder):
    array = np.zeros((4, 5, 3), np.uint8)
    image = Image.new("RGB", (3, 3))
    url = "https://example.org/some%20thing.jpg?x=1"
    found = list(find_inputs(["photos/a.png", [array, image], url, b"data", "absent.jpg"]))
    assert [item.origin for item in found] == [
        "photos/a.png",
        "photo 2",
        "photo 3",
        url,
        "photo 5",
        "absent.jpg",
    ]
    assert found[3].stem == "some thing" and found[3].path is None
    assert found[1].stem == "photo_0002"
    assert [item.origin for item in find_inputs(np.zeros((2, 4, 5, 3)))] == ["photo 1", "photo 2"]


def test_the_output_is_left_out_of_a_folder(folder):
    assert names(folder, without=folder / "deep") == ["a.png", "b.JPG", "odd[1].png"]
    assert names("photos/**", without=folder / "deep")[-1] == "odd[1].png"


def test_generators_are_taken_one_by_one():
    taken = []

    def photos():
        for number in range(9):
            taken.append(number)
            yield np.zeros((4, 5, 3))

    found = find_inputs(photos())
    next(found), next(found)
    assert taken == [0, 1]


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        ("photos/*.gif", r"photos/\*.gif: no file's name is like this; correct the pattern"),
        ("empty", r"empty: no photographs are in this folder or below it; .*\.jpg"),
    ],
)
def test_what_holds_nothing_is_named(folder, photos, message):
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=message):
        list(find_inputs(photos))


def test_stems_are_names_on_every_system():
    assert safe_stem("a/b:c*?") == "a_b_c__"
    assert safe_stem("...") == "photo"
    assert len(safe_stem("x" * 400)) == 100
    assert safe_stem("Häuser (2)") == "Häuser (2)"
