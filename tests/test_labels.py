import pytest

from keras_psp import labels

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
}


def test_every_data_set_has_a_name_and_a_colour_a_class():
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
    # VOC's colours are the bits of the index.
    assert voc.class_names[15] == "person" and voc.palette[15] == (192, 128, 128)
    assert labels.labels("ade20k").class_names[2] == "sky"
    assert labels.labels("ade20k").class_names[7] == "bed"
    assert labels.labels("camvid").class_names[10] == "bicyclist"
    # fcn.berkeleyvision.org, data/sift-flow/classes.txt, counts from 1.
    assert labels.labels("lmo").class_names[33 - 1] == "window"
    # 80 things, then 53 stuff classes.
    coco = labels.labels("coco").class_names
    assert coco[79] == "toothbrush" and coco[80] == "banner" and coco[132] == "rug-merged"


def test_unknown_data_sets_are_answered_with_the_known():
    with pytest.raises(ValueError, match="dataset='kitti' is unknown; choose one of ade20k, "):
        labels.labels("kitti")
