import base64
import json
import zlib

import numpy as np
import pytest
from support import label_tools
from support.label_tools import (
    save_image,
    save_json,
    supervisely_bitmap,
    supervisely_file,
    supervisely_meta,
    supervisely_object,
    supervisely_polygon,
)

from keras_psp.data import load

SIZE = (40, 60)
SQUARE = [[5, 5], [30, 5], [30, 25], [5, 25]]


def one(root, objects, *, size=SIZE):
    supervisely_meta(root)
    save_image(root / "ds1" / "img" / "a.png", np.zeros((*SIZE, 3), np.uint8))
    supervisely_file(root / "ds1" / "ann" / "a.png.json", size, objects)
    return load("supervisely", root=root).example("all", 0)[1]


def test_bitmaps_are_exact(tmp_path, examples):
    label_tools.supervisely(tmp_path, examples)
    source = load("supervisely", root=tmp_path)
    expected = [scene.mask() for scene in examples]
    label_tools.assert_masks_equal(source, expected, examples)
    assert source.class_names == ("background", *label_tools.CLASSES)
    np.testing.assert_array_equal(source.palette[1:], list(label_tools.COLORS.values()))


def test_polygons_are_those_of_opencv_which_supervisely_draws_with(tmp_path, examples):
    cv2 = pytest.importorskip("cv2")

    def fill(points, size):
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
        return mask.astype(bool)

    label_tools.supervisely(tmp_path, examples, kind="polygon")
    expected = [scene.mask(fill) for scene in examples]
    label_tools.assert_masks_equal(load("supervisely", root=tmp_path), expected, examples)


def test_holes_are_cut_out_with_their_outline(tmp_path):
    hole = [[10, 10], [20, 10], [20, 20], [10, 20]]
    expected = np.zeros(SIZE, np.uint8)
    expected[5:26, 5:31] = 2
    expected[10:21, 10:21] = 0
    mask = one(tmp_path, [supervisely_polygon("dog", SQUARE, [hole])])
    np.testing.assert_array_equal(mask, expected)


def test_rectangles_and_multipolygons(tmp_path):
    rectangle = supervisely_object(
        "cat", "rectangle", points={"exterior": [[30.9, 25], [5, 5.2]], "interior": []}
    )
    expected = np.zeros(SIZE, np.uint8)
    expected[5:26, 5:31] = 1
    np.testing.assert_array_equal(one(tmp_path, [rectangle]), expected)
    parts = [{"exterior": SQUARE}, {"exterior": [[40, 5], [50, 5], [50, 25], [40, 25]]}]
    expected[5:26, 40:51] = 1
    mask = one(tmp_path, [supervisely_object("cat", "multipolygon", parts=parts)])
    np.testing.assert_array_equal(mask, expected)


def test_later_objects_are_above_and_bitmaps_are_cut_off(tmp_path):
    bitmap = supervisely_bitmap("tree", np.ones((20, 20), bool))
    bitmap["bitmap"]["origin"] = [-10, 30]
    mask = one(tmp_path, [supervisely_polygon("cat", [[0, 0], [59, 0], [59, 39], [0, 39]]), bitmap])
    assert (mask[30:, :10] == 3).all() and (mask[:30] == 1).all() and (mask[:, 10:] == 1).all()


def test_points_and_lines_are_left_out_and_counted(tmp_path, capsys):
    point = supervisely_object("cat", "point", points={"exterior": [[3, 3]], "interior": []})
    assert not one(tmp_path, [point, point]).any()
    assert "left out, since they have no area: 2 of type point." in capsys.readouterr().err


def test_uncompressed_bitmaps_and_names_without_suffix(tmp_path):
    bitmap = supervisely_bitmap("cat", np.ones((3, 4), bool))
    content = base64.b64decode(bitmap["bitmap"]["data"])
    bitmap["bitmap"]["data"] = base64.b64encode(zlib.decompress(content)).decode()
    one(tmp_path, [])
    supervisely_file(tmp_path / "ds1" / "ann" / "a.json", SIZE, [bitmap])
    (tmp_path / "ds1" / "ann" / "a.png.json").unlink()
    assert (load("supervisely", root=tmp_path).example("all", 0)[1] == 1).sum() == 12


def test_data_sets_named_as_splits_are_splits(tmp_path, examples):
    for dataset, part in (("train", examples[:2]), ("val", examples[2:4])):
        label_tools.supervisely(tmp_path, part, dataset=dataset)
    assert load("supervisely", root=tmp_path).splits == ("train", "val")
    label_tools.supervisely(tmp_path, examples[4:5], dataset="more")
    # macOS writes such a file next to every file on foreign disks.
    (tmp_path / "more" / "ann" / "._a.png.json").write_bytes(b"\0\5\26\7")
    assert load("supervisely", root=tmp_path).count("all") == 5


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (supervisely_object("cat", "alpha_mask"), r"object 1, a alpha_mask, \(cat\) has a type"),
        (supervisely_object("cat", "bitmap"), "object 1, a bitmap, .cat. lacks its points or its"),
        (
            supervisely_object("cat", "bitmap", bitmap={"data": "x!", "origin": [0, 0]}),
            "bitmap that",
        ),
        (supervisely_polygon("cat", SQUARE[:2]), r"has 2 point\(s\), but needs at least 3"),
        ({**supervisely_polygon("cat", SQUARE), "classTitle": "cow"}, "labeled 'cow', which isn't"),
    ],
)
def test_wrong_objects_are_named(tmp_path, item, message):
    with pytest.raises(ValueError, match=message) as caught:
        one(tmp_path, [item])
    assert str(caught.value).startswith(str(tmp_path / "ds1" / "ann" / "a.png.json"))


def test_wrong_projects_are_named(tmp_path):
    with pytest.raises(ValueError, match="was drawn for an image of 4x3, but"):
        one(tmp_path, [], size=(3, 4))
    (tmp_path / "ds1" / "img" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"its image a.png isn't in .*; export the labels with"):
        load("supervisely", root=tmp_path)
    save_json(tmp_path / "ds1" / "ann" / "a.png.json", [])
    with pytest.raises(ValueError, match="isn't an annotation of Supervisely with `size`"):
        load("supervisely", root=tmp_path)
    (tmp_path / "ds1" / "ann" / "a.png.json").unlink()
    with pytest.raises(ValueError, match=r"has no annotations DATASET/ann/\*.json"):
        load("supervisely", root=tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps([]))
    with pytest.raises(ValueError, match=r"has no meta.json with `classes`; choose the folder"):
        load("supervisely", root=tmp_path)
