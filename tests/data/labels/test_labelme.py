import base64
import io

import numpy as np
import pytest
from PIL import Image
from support import label_tools
from support.label_tools import labelme_file, save_image, save_json

from keras_psp.data import load
from keras_psp.data.labels.labelme import Labelme

SIZE = (40, 60)


@pytest.fixture
def root(tmp_path, examples):
    label_tools.labelme(tmp_path, examples)
    return tmp_path


def one(root, drawn, *, name="a", size=SIZE, **fields):
    """Writes an image with a .json, and returns the mask that is read."""
    save_image(root / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
    save_json(root / f"{name}.json", {**labelme_file(f"{name}.png", size, drawn), **fields})
    return Labelme(root).example("all", 0)[1]


def test_masks_are_those_of_labelme(root, examples):
    drawing = pytest.importorskip("labelme.utils.shape", exc_type=ImportError)
    values = {name: index for index, name in enumerate(label_tools.CLASSES, 1)}
    expected = []
    for scene in examples:
        shapes = [
            {"label": r.label, "points": r.points.tolist(), "shape_type": "polygon"}
            for r in scene.regions
        ]
        expected.append(drawing.shapes_to_label(scene.size, shapes, values)[0])
    label_tools.assert_masks_equal(load("labelme", root=root), expected, examples)


def test_masks_differ_from_the_even_odd_rule_within_two_pixels_of_the_outlines(root, examples):
    source = load("labelme", root=root)
    for scene, mask in zip(examples, label_tools.masks_of(source, examples), strict=True):
        different = mask != scene.mask(lambda p, size: label_tools.inside(p, size, center=0))
        near = np.zeros(scene.size, bool)
        for region in scene.regions:
            near |= label_tools.near_outline(region.points, scene.size, 2.0, center=0)
        assert different.any() and not (different & ~near).any()


@pytest.mark.parametrize("kind", ["rectangle", "oriented_rectangle"])
def test_rectangles_include_their_last_pixels(tmp_path, kind):
    corners = [[30.0, 20.0], [10.0, 5.0]]
    if kind == "oriented_rectangle":
        corners = [[10, 5], [30, 5], [30, 20], [10, 20]]
    expected = np.zeros(SIZE, np.uint8)
    expected[5:21, 10:31] = 1
    np.testing.assert_array_equal(one(tmp_path, [("cat", kind, corners)]), expected)


def test_circles_lines_and_points_have_labelmes_sizes(tmp_path):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    circle = one(tmp_path, [("cat", "circle", [[30, 20], [30, 32]])]) == 1
    distance = np.hypot(columns - 30, rows - 20)
    assert circle[distance <= 11.5].all() and not circle[distance >= 12.8].any()
    point = one(tmp_path, [("cat", "point", [[30, 20]])]) == 1
    assert point[distance <= 4.5].all() and not point[distance >= 5.8].any()
    for kind in ("line", "linestrip"):
        line = one(tmp_path, [("cat", kind, [[10, 20], [50, 20]])])
        assert (line[:, 12:48].sum(0) == 10).all()


def test_masks_are_read_from_their_bitmap(tmp_path):
    bitmap = np.random.default_rng(0).random((8, 11)) < 0.5
    file = io.BytesIO()
    Image.fromarray(bitmap.astype(np.uint8)).save(file, "PNG")
    content = labelme_file("a.png", SIZE, [("cat", "mask", [[4, 3], [14, 10]])])
    content["shapes"][0]["mask"] = base64.b64encode(file.getvalue()).decode()
    expected = np.zeros(SIZE, np.uint8)
    expected[3:11, 4:15] = bitmap
    np.testing.assert_array_equal(one(tmp_path, [], shapes=content["shapes"]), expected)
    content["shapes"][0]["points"] = [[4, 3], [9, 10]]
    with pytest.raises(
        ValueError, match=r"a.json: shape 1, a mask, \(cat\) has a bitmap of 11x8 in"
    ):
        one(tmp_path, [], shapes=content["shapes"])


def test_later_shapes_are_above_earlier_ones(tmp_path):
    low, high = [[0, 0], [40, 30]], [[20, 10], [59, 39]]
    mask = one(tmp_path, [("dog", "rectangle", low), ("cat", "rectangle", high)])
    assert mask[20, 30] == 1 and mask[0, 0] == 2 and mask[39, 0] == 0


def test_what_is_outside_of_the_image_is_cut_off(tmp_path):
    mask = one(tmp_path, [("cat", "polygon", [[-50, -50], [30, -50], [30, 90], [-50, 90]])])
    assert (mask[:, :31] == 1).all() and not mask[:, 31:].any()


def test_names_come_from_labels_txt_and_the_shapes(root):
    (root / "labels.txt").write_text("__ignore__\n_background_\ntree\n")
    source = load("labelme", root=root)
    assert source.class_names == ("_background_", "tree", "cat", "dog")


def test_a_size_may_be_written_as_a_float(tmp_path):
    mask = one(tmp_path, [("cat", "rectangle", [[0, 0], [9, 9]])], imageHeight=40.0)
    assert mask.shape == SIZE and mask[5, 5] == 1


def test_the_label_ignore_is_ignored(tmp_path):
    save_image(tmp_path / "b.png", np.zeros((*SIZE, 3), np.uint8))
    mask = one(
        tmp_path, [("__ignore__", "rectangle", [[0, 0], [9, 9]]), ("cat", "point", [[40, 20]])]
    )
    assert (mask[:10, :10] == 255).all() and mask[20, 40] == 1


def test_older_files_have_no_type_and_no_size(tmp_path):
    content = labelme_file("a.png", SIZE, [("cat", None, [[5, 5], [30, 5], [30, 30]])])
    assert one(tmp_path, [], shapes=content["shapes"], imageHeight=None, imageWidth=None).any()


def test_folders_are_splits_and_paths_may_be_those_of_windows(tmp_path, examples):
    for split, part in (("train", examples[:2]), ("valid", examples[2:3])):
        label_tools.labelme(tmp_path / split, part)
    file = tmp_path / "valid" / "photo02.json"
    file.write_text(file.read_text().replace("photo02.png", "..\\\\valid\\\\photo02.png"))
    source = load("labelme", root=tmp_path)
    assert {split: source.count(split) for split in source.splits} == {"train": 2, "val": 1}


def test_a_renamed_image_keeps_its_label(root):
    (root / "photo03.png").rename(root / "new.png")
    (root / "photo03.json").rename(root / "new.json")
    source = load("labelme", root=root)
    assert "new.png" in [image.name for image, _ in source.paths("all")]


def test_a_renamed_image_is_not_taken_for_one_of_its_old_name_elsewhere(tmp_path):
    for name in ("one/first_1", "two/1"):  # frames of two videos
        save_image(tmp_path / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
    content = labelme_file("1.png", SIZE, [("cat", "polygon", SQUARE)])
    save_json(tmp_path / "one" / "first_1.json", content)
    ((image, _),) = load("labelme", root=tmp_path).paths("all")
    assert image == tmp_path / "one" / "first_1.png"


def test_accents_may_be_characters_of_their_own(tmp_path):
    """As in the names of files that macOS has packed or unpacked."""
    save_image(tmp_path / "cafe\u0301" / "e\u0301.png", np.zeros((*SIZE, 3), np.uint8))
    content = labelme_file("../caf\u00e9/\u00e9.png", SIZE, [("cat", "polygon", SQUARE)])
    save_json(tmp_path / "labels" / "a.json", content)
    assert load("labelme", root=tmp_path).count("all") == 1


def test_images_without_a_file_are_left_out_and_counted(root, capsys):
    save_image(root / "later.png", np.zeros((4, 4, 3), np.uint8))
    assert load("labelme", root=root).count("all") == 12
    assert "1 image(s) without a .json are left out (later.png)" in capsys.readouterr().err


SQUARE = [[1, 1], [9, 1], [9, 9]]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([("", "polygon", SQUARE)], "shape 1, a polygon, has no label; label it, or remove it"),
        ([("cat", "star", SQUARE)], r"shape 1, a star \(cat\), has an unknown type; known ones"),
        ([("cat", "polygon", SQUARE[:2])], r"a polygon, \(cat\) has 2 point\(s\), but needs at"),
        (
            [("cat", "circle", SQUARE)],
            r"shape 1, a circle, \(cat\) has 3 points instead of 2; draw",
        ),
        ([("cat", "polygon", [[1, 1], [2, 2], [1e9, 3]])], "infinite or far outside of the image"),
        ([("cat", "polygon", [[1, "x"], [2, 2], [3, 3]])], "points that aren't pairs of numbers"),
        ([("cat", "mask", SQUARE[:2])], "has a bitmap that can't be read"),
    ],
)
def test_wrong_shapes_are_named(tmp_path, shapes, message):
    with pytest.raises(ValueError, match=message) as caught:
        one(tmp_path, shapes)
    assert str(caught.value).startswith(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shapes": "none"}, "`shapes` isn't a list of shapes"),
        ({"imageHeight": -1}, "records a size of 60 x -1; export it again, or remove both"),
        ({"imageHeight": 41}, r"was drawn for an image of 60x41, but .*a.png is 60x40; use the"),
    ],
)
def test_wrong_files_are_named(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        one(tmp_path, [("cat", "polygon", SQUARE)], **fields)


def test_missing_images_and_broken_files_are_named(root):
    (root / "photo04.png").unlink()
    with pytest.raises(
        ValueError, match=r"photo04.json: its image photo04.png isn't in .*; export"
    ):
        load("labelme", root=root)
    (root / "photo00.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"photo00.json: isn't JSON \(.*\); export or copy it again"
    ):
        load("labelme", root=root)


def test_a_folder_without_labels_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no .json of labelme; choose the folder"):
        load("labelme", root=tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        load("labelme", root=tmp_path / "nowhere")
