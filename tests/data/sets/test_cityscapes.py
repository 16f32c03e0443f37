import dataclasses
import shutil

import numpy as np
import pytest
from support import datasets

from keras_psp.data import load
from keras_psp.data.sets.cityscapes import CITYSCAPES_IDS
from keras_psp.data.sets.registry import SETS

SIZE = (datasets.HEIGHT, datasets.WIDTH)


def test_cityscapes_has_instance_ids(make):
    source = load("cityscapes", root=make("cityscapes"), complete=False)
    instances = source.instances("val", 1)
    assert instances.shape == SIZE and instances.dtype == np.int32
    ids = datasets.labels("cityscapes").astype(int)
    np.testing.assert_array_equal(instances, np.where(ids == 26, 26_001, ids))
    # As in the mask: label id = instance id // 1000 where there are instances.
    assert set(source.example("val", 1)[1][instances == 26_001]) == {13}
    with pytest.raises(ValueError, match=r"'test' of Cityscapes .* has no instance labels"):
        source.instances("test", 0)
    with pytest.raises(ValueError, match=r"gtCoarse_instanceIds.png: no such file; unpack"):
        source.instances("train_extra", 0)


def test_cityscapes_accepts_train_ids(make):
    root = make("cityscapes")
    for path in sorted(root.glob("gtFine/train/*/*_labelIds.png")):
        datasets.save(
            path.with_name(path.name.replace("labelIds", "labelTrainIds")),
            datasets.expected_mask("cityscapes"),
        )
        path.unlink()
    source = load("cityscapes", root=root, complete=False)
    np.testing.assert_array_equal(
        source.example("train", 2)[1], datasets.expected_mask("cityscapes")
    )
    np.testing.assert_array_equal(source.example("val", 0)[1], datasets.expected_mask("cityscapes"))
    datasets.save(source.paths("train")[0][1], np.full(SIZE, 33, np.uint8))
    with pytest.raises(ValueError, match=r"labelTrainIds.png: label value 33 isn't a trainId"):
        source.example("train", 0)


def test_cityscapes_ids_are_those_of_its_scripts():
    table = pytest.importorskip("cityscapesscripts.helpers.labels", reason="its own table")
    ids = {label.trainId: label.id for label in table.labels if 0 <= label.trainId < 255}
    assert tuple(ids[index] for index in range(19)) == CITYSCAPES_IDS


def test_cityscapes_black_image_may_be_missing(make, monkeypatch):
    root = make("cityscapes")
    right = dataclasses.replace(SETS["cityscapes"], counts=datasets.COUNTS["cityscapes"])
    monkeypatch.setitem(SETS, "cityscapes", right)
    assert load("cityscapes", root=root).count("train_extra") == 2
    folder = root / "leftImg8bit" / "train_extra" / "troisdorf"
    (folder / "troisdorf_000000_000073_leftImg8bit.png").unlink()
    assert load("cityscapes", root=root).count("train_extra") == 1
    (folder / "troisdorf_000000_000072_leftImg8bit.png").unlink()
    with pytest.raises(ValueError, match=r"000072_gtCoarse_labelIds.png: label has no image"):
        load("cityscapes", root=root)


def test_cityscapes_without_some_parts(make):
    root = make("cityscapes")
    shutil.rmtree(root / "leftImg8bit" / "train_extra")
    source = load("cityscapes", root=root, complete=False)
    assert source.splits == ("train", "val", "test")
    with pytest.raises(ValueError, match=r"gtCoarse.zip(.|\n)*'train_extra' of City.* isn't here"):
        source.count("train_extra")
    shutil.rmtree(root / "gtFine")
    with pytest.raises(ValueError, match=r"gtFine/train: no such folder; unpack gtFine_trainvalt"):
        load("cityscapes", root=root, complete=False)
