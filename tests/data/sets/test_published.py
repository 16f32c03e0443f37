import dataclasses

import numpy as np
import pytest
from support import datasets

from keras_psp.data import load
from keras_psp.data.sets.registry import SETS

SIZE = (datasets.HEIGHT, datasets.WIDTH)


@pytest.mark.parametrize("name", datasets.MAKERS)
def test_splits_and_labels(make, name):
    source = load(name, root=make(name), complete=False)
    assert {split: source.count(split) for split in source.splits} == datasets.COUNTS[name]
    assert source.num_classes == len(source.palette) == len(source.class_names)
    assert source.ignore_class == 255
    for split in source.splits:
        assert all(image.is_file() for image, _ in source.paths(split))
        if source.labeled(split):
            image, mask = source.example(split, 0)
            assert image.shape == (*SIZE, 3)
            assert image.dtype == mask.dtype == np.uint8
    np.testing.assert_array_equal(source.example("train", 0)[1], datasets.expected_mask(name))
    # Results are written with the value of a class, if there is exactly one.
    for value, index in datasets.VALUES[name].items():
        if index != 255:
            assert source.label_values[index] == value
    files = {pair for split in source.splits for pair in source.paths(split)}
    assert source.check(progress=False) == len(files)


@pytest.mark.parametrize("name", datasets.MAKERS)
def test_published_numbers_are_required(make, name, monkeypatch):
    root = make(name)
    with pytest.raises(ValueError) as caught:
        load(name, root=root)
    message = str(caught.value)
    counts = datasets.COUNTS[name]
    for split, published in SETS[name].counts.items():
        lack = {"lmo": {"train": 2}}.get(name, {}).get(split, 0)
        assert f"{split} has {counts[split]} examples instead of {published - lack:,}" in message
    assert SETS[name].where in message and "complete=False" in message
    lacking = {"train": counts["train"] + 2} if name == "lmo" else {}
    right = dataclasses.replace(SETS[name], counts={**counts, **lacking})
    monkeypatch.setitem(SETS, name, right)
    assert load(name, root=root).count("train") == counts["train"]


@pytest.mark.parametrize("name", [name for name in datasets.MAKERS if name != "coco"])
def test_a_network_trains_on_the_files(make, name):
    datasets.train(load(name, root=make(name), complete=False))


def test_error_about_another_layout_says_where_to_get_the_files(tmp_path):
    for name, entry in SETS.items():
        with pytest.raises(ValueError) as caught:
            load(name, root=tmp_path)
        assert str(caught.value).splitlines()[-1].startswith(str(tmp_path))
        assert entry.help() in str(caught.value)
        assert entry.where in entry.help() and entry.layout.split()[0] in entry.help()


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("ade20k", "ADEChallengeData2016"),
        ("voc2012", "VOCdevkit/VOC2012"),
        ("pascal_context", "VOC2010"),
        ("lmo", "SiftFlowDataset"),
        ("camvid", "CamVid"),
    ],
)
def test_the_parent_folder_is_accepted(make, tmp_path, name, inner):
    root = make(name)
    above = tmp_path / "above"
    (above / inner).parent.mkdir(parents=True)
    root.rename(above / inner)
    source = load(name, root=above, complete=False)
    assert source.root == above / inner
    assert {s: source.count(s) for s in source.splits} == datasets.COUNTS[name]


def test_image_without_label_is_refused_in_a_complete_copy(make):
    root = make("ade20k")
    (root / "annotations" / "training" / "ADE_train_00000002.png").unlink()
    with pytest.raises(ValueError, match=r"ADE_train_00000002.jpg: image has no label; add .*png"):
        load("ade20k", root=root)
    assert load("ade20k", root=root, complete=False).count("train") == 2


def test_more_examples_than_published_have_another_cause(make, monkeypatch):
    few = dataclasses.replace(SETS["ade20k"], counts={"train": 1, "val": 2})
    monkeypatch.setitem(SETS, "ade20k", few)
    with pytest.raises(
        ValueError,
        match="train has 3 examples instead of 1; it contains files of another data set or version",
    ):
        load("ade20k", root=make("ade20k"))


def test_a_label_value_of_another_set_is_named(make):
    root = make("ade20k")
    path = root / "annotations" / "training" / "ADE_train_00000001.png"
    datasets.save(path, np.full(SIZE, 151, np.uint8))
    source = load("ade20k", root=root, complete=False)
    with pytest.raises(
        ValueError, match=rf"{path}: label value 151 doesn't occur in ADE20K .*\(0 to 150\)"
    ):
        source.check(progress=False)
    assert source.check(progress=False, skip=True) == 6
    assert [image.name for image, _ in source.skipped] == ["ADE_train_00000001.jpg"]


def test_missing_listed_image_is_named(make):
    root = make("pascal_context")
    (root / "JPEGImages" / "2008_b2.jpg").unlink()
    with pytest.raises(ValueError, match=r"2008_b2.jpg: no such file, but .*val.txt lists 2008_b2"):
        load("pascal_context", root=root)
    assert load("pascal_context", root=root, complete=False).count("val") == 2
