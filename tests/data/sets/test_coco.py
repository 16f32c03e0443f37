import json

import numpy as np
import pytest
from support import datasets

from keras_psp.data import load
from keras_psp.data.sets.registry import SETS
from keras_psp.labels import labels

SIZE = (datasets.HEIGHT, datasets.WIDTH)


@pytest.mark.parametrize("classes", ["coco", "voc2012"])
def test_a_network_trains_on_coco(make, classes):
    datasets.train(load("coco", root=make("coco"), complete=False, classes=classes))


def test_coco_with_the_classes_of_voc(make):
    source = load("coco", root=make("coco"), complete=False, classes="voc2012")
    assert source.class_names[15] == "person" and source.num_classes == 21
    _, mask = source.example("val", 0)
    categories = datasets.labels("coco")
    assert set(mask[categories == 1]) == {15}  # person
    assert set(mask[categories == 0]) == {255}
    assert set(mask[(categories != 1) & (categories != 0)]) == {0}
    with pytest.raises(ValueError, match="classes is 'ade20k'; it must be 'coco'"):
        load("coco", root=source.root, classes="ade20k")


def test_coco_categories_have_the_names_of_coco_stuff():
    # Categories 1 to 182 number things and stuff in both; later ones are merged.
    categories = [value for value in SETS["coco"].lookup if value]
    coco = dict(zip(categories, labels("coco").class_names, strict=True))
    unmerged = {category: name for category, name in coco.items() if category < 183}
    assert len(unmerged) == 116
    used = [c for c in range(1, 183) if c not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)]
    by_category = dict(zip(used, labels("coco_stuff").class_names, strict=True))
    assert {c: by_category[c] for c in unmerged} == unmerged


def test_coco_segments_that_are_not_listed_are_named(make):
    root = make("coco")
    path = root / "annotations" / "panoptic_val2017" / f"{1:012}.png"
    datasets.save(path, np.full((*SIZE, 3), 9, np.uint8))
    source = load("coco", root=root, complete=False)
    with pytest.raises(ValueError, match=r"0001.png: segment 592137 isn't in .*val2017.js"):
        source.example("val", 0)
    assert source.check("val", progress=False, skip=True) == 1
    listing = root / "annotations" / "panoptic_train2017.json"
    listing.write_text(json.dumps({"annotations": []}))
    with pytest.raises(ValueError, match=r"panoptic_train2017.json doesn't list this file"):
        source.example("train", 0)
    listing.write_text("{")
    with pytest.raises(ValueError, match=r"panoptic_train2017.json: can't be read"):
        load("coco", root=root, complete=False).example("train", 0)


def test_coco_stuff_in_the_folders_of_mmsegmentation(make):
    root = make("coco_stuff")
    (root / "stuffthingmaps").rename(root / "annotations")
    (root / "images").mkdir()
    for split in ("train2017", "val2017"):
        (root / split).rename(root / "images" / split)
        for path in (root / "annotations" / split).iterdir():
            path.with_name(f"{path.stem}_labelTrainIds.png").write_bytes(path.read_bytes())
    source = load("coco_stuff", root=root, complete=False)
    assert source.count("train") == 2
    np.testing.assert_array_equal(
        source.example("train", 0)[1], datasets.expected_mask("coco_stuff")
    )
