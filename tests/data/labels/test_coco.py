import contextlib
import io
import json
import sys

import numpy as np
import pytest
from support import label_tools
from support.label_tools import save_image, save_json

from keras_psp.data import load

pytest.importorskip("pycocotools")
SIZE = (12, 16)
SQUARE = [2, 3, 10, 3, 10, 9, 2, 9]


def annotation(segmentation, number=1, category=1, **fields):
    return {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "iscrowd": 0,
        "segmentation": segmentation,
        **fields,
    }


def write(root, annotations, *, categories=({"id": 1, "name": "cat"}, {"id": 3, "name": "dog"})):
    save_image(root / "images" / "a.png", np.zeros((*SIZE, 3), np.uint8))
    image = {"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
    content = {"images": [image], "annotations": annotations, "categories": list(categories)}
    save_json(root / "instances.json", content)
    return content


def one(root, annotations, **options):
    write(root, annotations)
    return load("coco_instances", root=root, **options).example("all", 0)[1]


def test_polygons_are_those_of_pycocotools(tmp_path, examples):
    from pycocotools.coco import COCO

    label_tools.coco(tmp_path, examples)
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(str(tmp_path / "annotations" / "instances.json"))
    expected = []
    for number, scene in enumerate(examples, 1):
        mask = np.zeros(scene.size, np.uint8)
        for item in api.loadAnns(api.getAnnIds(imgIds=[number])):
            mask[api.annToMask(item) > 0] = item["category_id"] // 10
        expected.append(mask)
    source = load("coco_instances", root=tmp_path)
    assert source.class_names == ("background", *label_tools.CLASSES)
    label_tools.assert_masks_equal(source, expected, examples)


def test_polygons_differ_from_the_even_odd_rule_within_a_pixel_of_the_outlines(tmp_path, examples):
    label_tools.coco(tmp_path, examples)
    source = load("coco_instances", root=tmp_path)
    count = labeled = 0
    for scene, mask in zip(examples, label_tools.masks_of(source, examples), strict=True):
        different = mask != scene.mask()
        near = np.zeros(scene.size, bool)
        for region in scene.regions:
            near |= label_tools.near_outline(region.points, scene.size, 0.5)
        assert not (different & ~near).any()
        count, labeled = count + different.sum(), labeled + (mask > 0).sum()
    assert 0 < count / labeled < 0.015  # of very small images


@pytest.mark.parametrize("kind", ["runs", "compressed"])
def test_run_lengths_are_exact(tmp_path, examples, kind):
    label_tools.coco(tmp_path, examples, kind=kind)
    expected = [scene.mask() for scene in examples]
    label_tools.assert_masks_equal(load("coco_instances", root=tmp_path), expected, examples)


def test_the_parts_of_an_object_are_united_and_later_objects_are_above(tmp_path):
    parts = [SQUARE, [12, 3, 15, 3, 15, 9, 12, 9]]
    mask = one(tmp_path, [annotation(parts), annotation([[0, 0, 6, 0, 6, 12, 0, 12]], 2, 3)])
    assert mask[5, 4] == 2 and mask[5, 8] == 1 and mask[5, 13] == 1 and mask[5, 11] == 0


def test_a_single_polygon_may_be_flat(tmp_path):
    assert one(tmp_path, [annotation(SQUARE)])[5, 5] == 1


def test_crowds_are_of_their_class_or_ignored(tmp_path):
    runs = {"counts": [0, 24, 168], "size": list(SIZE)}
    crowd = annotation(runs, iscrowd=1)
    assert (one(tmp_path, [crowd])[:, :2] == 1).all()
    assert (one(tmp_path, [crowd], crowd="ignore")[:, :2] == 255).all()
    with pytest.raises(ValueError, match="crowd is 'no'; choose one of class, ignore"):
        one(tmp_path, [], crowd="no")


def test_images_without_objects_are_background(tmp_path):
    mask = one(tmp_path, [annotation([SQUARE], image_id=1)], unlabeled="ignore")
    assert set(np.unique(mask)) == {0, 255}
    assert not one(tmp_path, []).any()


def test_names_of_files_and_folders_are_splits(tmp_path, examples):
    content = label_tools.coco(
        tmp_path, examples[:2], folder="train", file="train/_annotations.coco.json"
    )
    label_tools.coco(tmp_path, examples[2:3], folder="valid", file="valid/_annotations.coco.json")
    source = load("coco_instances", root=tmp_path)
    assert {split: source.count(split) for split in source.splits} == {"train": 2, "val": 1}
    other = tmp_path / "other"
    label_tools.coco(
        other, examples[:2], folder="train2017", file="annotations/instances_train2017.json"
    )
    label_tools.coco(
        other, examples[2:3], folder="val2017", file="annotations/instances_val2017.json"
    )
    save_json(other / "annotations" / "person_keypoints_val2017.json", content)
    source = load("coco_instances", root=other)
    assert {split: source.count(split) for split in source.splits} == {"train": 2, "val": 1}


def test_names_may_have_folders(tmp_path):
    for folder in ("day", "night"):
        save_image(tmp_path / folder / "a.png", np.zeros((*SIZE, 3), np.uint8))
    images = [{"id": 1, "file_name": "day/a.png"}, {"id": 2, "file_name": "night/a.png"}]
    content = {**write(tmp_path, [annotation([SQUARE], image_id=2)]), "images": images}
    save_json(tmp_path / "instances.json", content)
    source = load("coco_instances", root=tmp_path)
    assert [source.example("all", index)[1].any() for index in (0, 1)] == [False, True]


def test_a_single_file_can_be_given(tmp_path, examples):
    label_tools.coco(tmp_path, examples)
    source = load("coco_instances", root=tmp_path / "annotations" / "instances.json")
    assert source.count("all") == 12


def test_a_placeholder_above_the_categories_is_no_class(tmp_path):
    categories = (
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
    )
    write(tmp_path, [annotation([SQUARE])], categories=categories)
    assert load("coco_instances", root=tmp_path).class_names == ("background", "cat")


def test_an_unused_category_that_is_its_own_supercategory_is_a_class(tmp_path):
    categories = (
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 2, "name": "bicycle", "supercategory": "vehicle"},
    )
    write(tmp_path, [annotation([SQUARE], category=2)], categories=categories)
    names = load("coco_instances", root=tmp_path).class_names
    assert names == ("background", "person", "bicycle")


def test_images_of_one_name_are_those_of_their_files_split(tmp_path):
    for number, split in enumerate(("train", "val"), 1):
        save_image(tmp_path / "images" / split / "1.png", np.zeros((*SIZE, 3), np.uint8))
        content = {
            "images": [{"id": number, "file_name": "1.png"}],
            "annotations": [annotation([SQUARE], image_id=number)],
            "categories": [{"id": 1, "name": "cat"}],
        }
        save_json(tmp_path / "annotations" / f"instances_{split}.json", content)
    source = load("coco_instances", root=tmp_path)
    for split in ("train", "val"):
        assert [image.parent.name for image, _ in source.paths(split)] == [split]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "annotation 1 .cat. has no segmentation, only a box; export instance segmentation"),
        ([[1, 2, 3, 4]], r"has 2 point\(s\), but needs at least 3; draw it again, or remove it"),
        ([[1, 2, 3, 4, 5]], "has points that aren't pairs of numbers"),
        ([[1, 2, 3, 4, float("nan"), 6]], "infinite or far outside"),
        ({"counts": [5, 5], "size": [12, 16]}, "run lengths that don't fill its 12x16 pixels"),
        ({"counts": [5, -5, 192], "size": [12, 16]}, "run lengths that don't fill"),
        ({"counts": ["x"], "size": [12, 16]}, "has run lengths that aren't numbers"),
        ({"counts": "53", "size": [12, 16]}, "run lengths that don't fill its 12x16 pixels"),
        ({"counts": "5z3", "size": [12, 16]}, "has run lengths that are damaged"),
        (
            {"counts": [192], "size": [16, 12]},
            r"has run lengths for the size \[16, 12\]",
        ),
        ({"counts": [192], "size": 5}, r"run lengths for the size 5, not \[12, 16\]"),
    ],
)
def test_wrong_segmentations_are_named(tmp_path, segmentation, message):
    with pytest.raises(ValueError, match=message) as caught:
        one(tmp_path, [annotation(segmentation)])
    assert str(caught.value).startswith(str(tmp_path / "instances.json#a.png"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [annotation([SQUARE], category=7)]}, "annotation 1 has category 7, which"),
        ({"annotations": [annotation([SQUARE], image_id=9)]}, "annotation 1 is for image 9, which"),
        ({"annotations": [3]}, "annotation 1 has category None"),
        ({"categories": [{"id": 1}]}, "a category has no id or no name"),
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]},
            "categories 'cat' and 'dog' have the same id, 1; give each its own",
        ),
        ({"images": [{"file_name": "a.png"}]}, "an image has no id"),
        (
            {"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]},
            "#b.png: another image has the id 1, too, so it isn't clear which one the annotations",
        ),
        ({"images": [{"id": 1, "file_name": "b.png"}]}, "its image b.png isn't in .*; export the"),
        ({"images": [{"id": 1}]}, "has None as its image's name; export it again"),
        ({"images": [], "annotations": []}, "has no images; export the labels again, with their"),
        ({"images": None}, "has no .json with COCO's images, annotations and categories"),
    ],
)
def test_wrong_files_are_named(tmp_path, change, message):
    content = {**write(tmp_path, [annotation([SQUARE])]), **change}
    save_json(tmp_path / "instances.json", content)
    with pytest.raises(ValueError, match=message) as caught:
        load("coco_instances", root=tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_image_listed_twice_is_refused(tmp_path):
    content = write(tmp_path, [])
    content["images"].append({**content["images"][0], "id": 2})
    save_json(tmp_path / "instances.json", content)
    with pytest.raises(ValueError, match="an image is listed twice; export it again"):
        load("coco_instances", root=tmp_path)
    write(tmp_path, [])
    save_json(tmp_path / "more.json", json.loads((tmp_path / "instances.json").read_text()))
    (tmp_path / "instances.json").rename(tmp_path / "less.json")
    with pytest.raises(
        ValueError, match=r"a.png is annotated in .*less.json#a.png as well; remove"
    ):
        load("coco_instances", root=tmp_path)


def test_without_pycocotools_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert not one(tmp_path, [annotation({"counts": [192], "size": list(SIZE)})]).any()
    with pytest.raises(ImportError, match=r'pip install "keras-psp\[labels\]"'):
        one(tmp_path, [annotation([SQUARE])])
