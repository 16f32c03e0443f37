import dataclasses
import json
import shutil

import datasets as miniatures
import numpy as np
import pytest

from keras_psp.data import load
from keras_psp.data.sets.cityscapes import CITYSCAPES_IDS
from keras_psp.data.sets.coco import COCO_CATEGORIES
from keras_psp.data.sets.registry import SETS
from keras_psp.labels import labels

SIZE = (miniatures.HEIGHT, miniatures.WIDTH)


@pytest.fixture
def make(tmp_path):
    def make(name, **options):
        if name == "lmo" or options.get("augmentation") == "mat":
            pytest.importorskip("scipy", reason="reads and writes .mat files")
        root = tmp_path / name
        root.mkdir()
        miniatures.MAKERS[name](root, **options)
        return root

    return make


def expected_mask(name):
    values = miniatures.labels(name)
    return np.vectorize(miniatures.VALUES[name].get)(values).astype(np.uint8)


@pytest.mark.parametrize("name", miniatures.MAKERS)
def test_splits_and_labels(make, name):
    source = load(name, root=make(name), complete=False)
    assert {split: source.count(split) for split in source.splits} == miniatures.COUNTS[name]
    assert source.num_classes == len(source.palette) == len(source.class_names)
    assert source.ignore_class == 255
    for split in source.splits:
        assert all(image.is_file() for image, _ in source.paths(split))
        if source.labeled(split):
            image, mask = source.example(split, 0)
            assert image.shape == (*SIZE, 3)
            assert image.dtype == mask.dtype == np.uint8
    np.testing.assert_array_equal(source.example("train", 0)[1], expected_mask(name))
    # Where a value has a class of its own, results are written with that value.
    for value, index in miniatures.VALUES[name].items():
        if index != 255:
            assert source.label_values[index] == value
    files = {pair for split in source.splits for pair in source.paths(split)}
    assert source.check(progress=False) == len(files)


@pytest.mark.parametrize("name", miniatures.MAKERS)
def test_published_numbers_are_demanded(make, name, monkeypatch):
    root = make(name)
    with pytest.raises(ValueError) as caught:
        load(name, root=root)
    message = str(caught.value)
    found = miniatures.COUNTS[name]
    for split, published in SETS[name].counts.items():
        lack = {"lmo": {"train": 2}}.get(name, {}).get(split, 0)
        assert f"{split} has {found[split]} examples instead of {published - lack:,}" in message
    assert SETS[name].where in message and "complete=False" in message
    lacking = {"train": found["train"] + 2} if name == "lmo" else {}
    right = dataclasses.replace(SETS[name], counts={**found, **lacking})
    monkeypatch.setitem(SETS, name, right)
    assert load(name, root=root).count("train") == found["train"]


@pytest.mark.parametrize("name", [name for name in miniatures.MAKERS if name != "coco"])
def test_from_files_to_a_training_step(make, name):
    miniatures.train(load(name, root=make(name), complete=False))


@pytest.mark.parametrize("classes", ["coco", "voc2012"])
def test_coco_from_files_to_a_training_step(make, classes):
    miniatures.train(load("coco", root=make("coco"), complete=False, classes=classes))


# --- What is wrong with a copy ----------------------------------------------------


def test_a_folder_of_another_layout_is_told_where_to_get_the_set(tmp_path):
    for name, entry in SETS.items():
        with pytest.raises(ValueError) as caught:
            load(name, root=tmp_path)
        assert str(caught.value).startswith(str(tmp_path))
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
def test_the_folder_above_will_do(make, tmp_path, name, inner):
    root = make(name)
    above = tmp_path / "above"
    (above / inner).parent.mkdir(parents=True)
    root.rename(above / inner)
    source = load(name, root=above, complete=False)
    assert source.root == above / inner
    assert {s: source.count(s) for s in source.splits} == miniatures.COUNTS[name]


def test_an_image_without_label_is_a_fault_of_a_complete_copy(make):
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
    miniatures.save(path, np.full(SIZE, 151, np.uint8))
    source = load("ade20k", root=root, complete=False)
    with pytest.raises(
        ValueError, match=rf"{path}: label value 151 doesn't occur in ADE20K .*\(0 to 150\)"
    ):
        source.check(progress=False)
    assert source.check(progress=False, skip=True) == 4
    assert [image.name for image, _ in source.skipped] == ["ADE_train_00000001.jpg"]


def test_a_listed_picture_that_is_missing_is_named(make):
    root = make("pascal_context")
    (root / "JPEGImages" / "2008_b2.jpg").unlink()
    with pytest.raises(ValueError, match=r"2008_b2.jpg: no such file, but .*val.txt lists 2008_b2"):
        load("pascal_context", root=root)
    assert load("pascal_context", root=root, complete=False).count("val") == 2


# --- PASCAL VOC -------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", ["png", "mat"])
def test_voc_is_augmented_as_by_its_peers(make, augmentation):
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
    np.testing.assert_array_equal(source.example("train", 0)[1], expected_mask("voc2012"))
    without = expected_mask("voc2012")
    without[without == 255] = 0
    np.testing.assert_array_equal(source.example("train", 4)[1], without)
    assert source.paths("train")[4][1].suffix == f".{augmentation}"


def test_voc_takes_the_release_of_sbd_by_name(make, tmp_path):
    root = make("voc2012", augmentation="mat")
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "benchmark_RELEASE").rename(elsewhere)
    assert "train" not in load("voc2012", root=root, complete=False).splits
    assert load("voc2012", root=root, complete=False, sbd=elsewhere).count("train") == 5
    with pytest.raises(ValueError, match="dataset/cls isn't here"):
        load("voc2012", root=root, complete=False, sbd=root)


def test_voc_without_sbd_says_what_train_needs(make):
    root = make("voc2012")
    shutil.rmtree(root / "SegmentationClassAug")
    source = load("voc2012", root=root, complete=False)
    assert source.splits == ("train_voc", "val", "trainval", "test")
    with pytest.raises(ValueError, match=r"'train' is unknown; [^$]*SegmentationClassAug/2007"):
        source.count("train")


def test_voc_has_a_test_split_of_images(make):
    test = load("voc2012", "test", root=make("voc2012"), complete=False)
    image, mask = test[0]
    assert image.shape == (*SIZE, 3) and mask is None


# --- Cityscapes -------------------------------------------------------------------


def test_cityscapes_has_instance_ids(make):
    source = load("cityscapes", root=make("cityscapes"), complete=False)
    instances = source.instances("val", 1)
    assert instances.shape == SIZE and instances.dtype == np.int32
    ids = miniatures.labels("cityscapes").astype(int)
    np.testing.assert_array_equal(instances, np.where(ids == 26, 26_001, ids))
    # As in the mask: label id = instance id // 1000 where there are instances.
    assert set(source.example("val", 1)[1][instances == 26_001]) == {13}
    with pytest.raises(ValueError, match=r"'test' of Cityscapes .* has no instance labels"):
        source.instances("test", 0)
    with pytest.raises(ValueError, match=r"gtCoarse_instanceIds.png: no such file; unpack"):
        source.instances("train_extra", 0)


def test_cityscapes_takes_train_ids_too(make):
    root = make("cityscapes")
    for path in sorted(root.glob("gtFine/train/*/*_labelIds.png")):
        miniatures.save(
            path.with_name(path.name.replace("labelIds", "labelTrainIds")),
            expected_mask("cityscapes"),
        )
        path.unlink()
    source = load("cityscapes", root=root, complete=False)
    np.testing.assert_array_equal(source.example("train", 2)[1], expected_mask("cityscapes"))
    np.testing.assert_array_equal(source.example("val", 0)[1], expected_mask("cityscapes"))
    miniatures.save(source.paths("train")[0][1], np.full(SIZE, 33, np.uint8))
    with pytest.raises(ValueError, match=r"labelTrainIds.png: label value 33 isn't a trainId"):
        source.example("train", 0)


def test_cityscapes_ids_are_those_of_its_scripts():
    table = pytest.importorskip("cityscapesscripts.helpers.labels", reason="its own table")
    ids = {label.trainId: label.id for label in table.labels if 0 <= label.trainId < 255}
    assert tuple(ids[index] for index in range(19)) == CITYSCAPES_IDS


def test_cityscapes_black_picture_may_be_missing(make, monkeypatch):
    root = make("cityscapes")
    right = dataclasses.replace(SETS["cityscapes"], counts=miniatures.COUNTS["cityscapes"])
    monkeypatch.setitem(SETS, "cityscapes", right)
    assert load("cityscapes", root=root).count("train_extra") == 2
    folder = root / "leftImg8bit" / "train_extra" / "troisdorf"
    (folder / "troisdorf_000000_000073_leftImg8bit.png").unlink()
    assert load("cityscapes", root=root).count("train_extra") == 1
    (folder / "troisdorf_000000_000072_leftImg8bit.png").unlink()
    with pytest.raises(ValueError, match=r"000072_gtCoarse_labelIds.png: label has no image"):
        load("cityscapes", root=root)


def test_cityscapes_parts_that_are_missing(make):
    root = make("cityscapes")
    shutil.rmtree(root / "leftImg8bit" / "train_extra")
    source = load("cityscapes", root=root, complete=False)
    assert source.splits == ("train", "val", "test")
    with pytest.raises(ValueError, match=r"'train_extra' is unknown; [^$]*gtCoarse.zip"):
        source.count("train_extra")
    shutil.rmtree(root / "gtFine")
    with pytest.raises(ValueError, match=r"gtFine/train: no such folder; unpack gtFine_trainvalt"):
        load("cityscapes", root=root, complete=False)


# --- COCO -------------------------------------------------------------------------


def test_coco_as_vocs_classes(make):
    source = load("coco", root=make("coco"), complete=False, classes="voc2012")
    assert source.class_names[15] == "person" and source.num_classes == 21
    _, mask = source.example("val", 0)
    categories = miniatures.labels("coco")
    assert set(mask[categories == 1]) == {15}  # person
    assert set(mask[categories == 0]) == {255}
    assert set(mask[(categories != 1) & (categories != 0)]) == {0}
    with pytest.raises(ValueError, match="classes is 'ade20k'; it must be 'coco'"):
        load("coco", root=source.root, classes="ade20k")


def test_coco_categories_have_the_names_of_coco_stuff():
    # Categories 1 to 182 number things and stuff in both; later ones are merged.
    coco = dict(zip(COCO_CATEGORIES, labels("coco").class_names, strict=True))
    unmerged = {category: name for category, name in coco.items() if category < 183}
    assert len(unmerged) == 116
    used = [c for c in range(1, 183) if c not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)]
    by_category = dict(zip(used, labels("coco_stuff").class_names, strict=True))
    assert {c: by_category[c] for c in unmerged} == unmerged


def test_coco_segments_that_are_not_listed_are_named(make):
    root = make("coco")
    path = root / "annotations" / "panoptic_val2017" / f"{1:012}.png"
    miniatures.save(path, np.full((*SIZE, 3), 9, np.uint8))
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
    np.testing.assert_array_equal(source.example("train", 0)[1], expected_mask("coco_stuff"))


# --- The others -------------------------------------------------------------------


def test_camvid_in_folders_of_images_and_labels(make, tmp_path):
    root = make("camvid")
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        (root / split).rename(tmp_path / split / "images")
        (root / f"{split}annot").rename(tmp_path / split / "labels")
    source = load("camvid", root=tmp_path, complete=False)
    assert {split: source.count(split) for split in source.splits} == miniatures.COUNTS["camvid"]
    np.testing.assert_array_equal(source.example("test", 1)[1], expected_mask("camvid"))


def test_lmo_leaves_out_what_has_no_annotation(make):
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


def test_context_pictures_are_the_same_in_both_versions(make):
    root = make("pascal_context")
    sixty, fifty_nine = (
        load(name, root=root, complete=False) for name in ("pascal_context", "pascal_context_59")
    )
    assert sixty.class_names[1:] == fifty_nine.class_names
    assert sixty.paths("val") == fifty_nine.paths("val")
