import shutil

import numpy as np
import pytest
from support import datasets

from keras_psp.data import load

SIZE = (datasets.HEIGHT, datasets.WIDTH)


@pytest.mark.parametrize("augmentation", ["png", "mat"])
def test_voc_train_is_augmented_like_in_other_projects(make, augmentation):
    source = load("voc2012", root=make("voc2012", augmentation=augmentation), complete=False)
    numbers = {
        split: [int(image.stem[-6:]) for image, _ in source.paths(split)] for split in source.splits
    }
    # 10,582 are VOC's train and SBD without VOC's val.
    assert numbers == {
        "train": [0, 1, 4, 5, 6],
        "train_voc": [0, 1],
        "val": [2, 3],
        "trainval": [0, 1, 2, 3],
        "test": [7, 8],
    }
    # VOC's own labels have the void border, SBD's have not.
    np.testing.assert_array_equal(source.example("train", 0)[1], datasets.expected_mask("voc2012"))
    without = datasets.expected_mask("voc2012")
    without[without == 255] = 0
    np.testing.assert_array_equal(source.example("train", 4)[1], without)
    assert source.paths("train")[4][1].suffix == f".{augmentation}"


def test_voc_accepts_the_folder_of_sbd(make, tmp_path):
    root = make("voc2012", augmentation="mat")
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "benchmark_RELEASE").rename(elsewhere)
    assert "train" not in load("voc2012", root=root, complete=False).splits
    assert load("voc2012", root=root, complete=False, sbd=elsewhere).count("train") == 5
    with pytest.raises(ValueError, match="dataset/cls isn't here"):
        load("voc2012", root=root, complete=False, sbd=root)


def test_voc_without_sbd_lists_what_train_needs(make):
    root = make("voc2012")
    shutil.rmtree(root / "SegmentationClassAug")
    source = load("voc2012", root=root, complete=False)
    assert source.splits == ("train_voc", "val", "trainval", "test")
    with pytest.raises(ValueError, match=r"SegmentationClassAug/2007(.|\n)*'train' of PAS.* isn't"):
        source.count("train")


def test_voc_has_a_test_split_of_images(make):
    test = load("voc2012", "test", root=make("voc2012"), complete=False)
    image, mask = test[0]
    assert image.shape == (*SIZE, 3) and mask is None
