import shutil

import numpy as np
import pytest
from support import datasets

from keras_psp.data import load


def test_camvid_accepts_folders_of_images_and_labels(make, tmp_path):
    root = make("camvid")
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        (root / split).rename(tmp_path / split / "images")
        (root / f"{split}annot").rename(tmp_path / split / "labels")
    source = load("camvid", root=tmp_path, complete=False)
    assert {split: source.count(split) for split in source.splits} == datasets.COUNTS["camvid"]
    np.testing.assert_array_equal(source.example("test", 1)[1], datasets.expected_mask("camvid"))


def test_lmo_leaves_out_images_without_annotation(make):
    root = make("lmo")
    source = load("lmo", root=root, complete=False)
    assert [image.stem for image, _ in source.paths("train")] == ["coast_bea1", "coast_bea2"]
    assert [image.stem for image, _ in source.paths("test")] == ["forest_for3", "forest_for4"]
    shutil.rmtree(root / "Images")
    with pytest.raises(ValueError, match=r"categories: no such folder; it must hold \.jpg files"):
        load("lmo", root=root, complete=False)
    (root / "TestSet1.txt").unlink()
    with pytest.raises(ValueError, match=r"TestSet1.txt: no such file"):
        load("lmo", root=root, complete=False)


def test_pascal_context_has_the_same_images_in_both_versions(make):
    root = make("pascal_context")
    sixty, fifty_nine = (
        load(name, root=root, complete=False) for name in ("pascal_context", "pascal_context_59")
    )
    assert sixty.class_names[1:] == fifty_nine.class_names
    assert sixty.paths("val") == fifty_nine.paths("val")
