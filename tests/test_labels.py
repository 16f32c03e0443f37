import pytest

from keras_psp import labels
from keras_psp.visual import default_palette

COUNTS = {
    "ade20k": 150,
    "cityscapes": 19,
    "voc2012": 21,
    "pascal_context": 60,
    "pascal_context_59": 59,
    "coco_stuff": 171,
    "loveda": 7,
    "potsdam": 6,
    "vaihingen": 6,
    "isaid": 16,
    "camvid": 11,
    "lmo": 33,
    "coco": 133,
    "oxford_iiit_pet": 3,
    "scenes": 14,
}


def test_every_data_set_has_a_name_and_a_color_per_class():
    assert set(labels.names()) == set(COUNTS)
    for name, count in COUNTS.items():
        known = labels.labels(name)
        assert len(known.class_names) == len(set(known.class_names)) == len(known.palette) == count
        assert all(0 <= value <= 255 for color in known.palette for value in color)


def test_well_known_entries():
    cityscapes = labels.labels("cityscapes")
    assert cityscapes.class_names[13] == "car"
    assert cityscapes.palette[13] == (0, 0, 142)
    voc = labels.labels("voc2012")
    # VOC's colors are the bits of the index (VOCdevkit, VOClabelcolormap.m).
    for index, color in enumerate(voc.palette):
        bits = [sum((index >> 3 * j + k & 1) << 7 - j for j in range(8)) for k in range(3)]
        assert list(color) == bits
    assert voc.class_names[15] == "person" and voc.palette[15] == (192, 128, 128)
    assert labels.labels("ade20k").class_names[2] == "sky"
    assert labels.labels("ade20k").class_names[7] == "bed"
    assert labels.labels("camvid").class_names[10] == "bicyclist"
    # fcn.berkeleyvision.org, data/sift-flow/classes.txt, counts from 1.
    assert labels.labels("lmo").class_names[33 - 1] == "window"
    assert labels.labels("ade20k").palette[:2] == ((120, 120, 120), (180, 120, 120))
    # 80 things, then 53 stuff classes.
    coco = labels.labels("coco").class_names
    assert coco[79] == "toothbrush" and coco[80] == "banner" and coco[132] == "rug-merged"


def test_data_sets_without_published_colors_have_default_colors():
    for name in ("lmo", "oxford_iiit_pet"):
        palette = labels.labels(name).palette
        assert [list(color) for color in palette] == default_palette(len(palette)).tolist()


def test_unknown_data_set_raises_with_the_known_names():
    with pytest.raises(ValueError, match="dataset='kitti' is unknown; choose one of ade20k, "):
        labels.labels("kitti")
