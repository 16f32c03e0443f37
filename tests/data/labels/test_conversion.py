import dataclasses
import os

import numpy as np
import pytest
from PIL import Image
from support import label_tools
from support.rasters import band_folder

from keras_psp.data import ImageFolder, ImagePairs, JoinedPairs, load
from keras_psp.data.labels.conversion import convert_labels


@pytest.fixture
def source(tmp_path, examples):
    label_tools.supervisely(tmp_path / "in", examples)
    return load("supervisely", root=tmp_path / "in")


def test_a_folder_has_the_same_examples_classes_and_splits(source, tmp_path, examples):
    converted = convert_labels(source, tmp_path / "out", progress=False)
    folder = ImageFolder(tmp_path / "out")
    label_tools.assert_masks_equal(folder, [scene.mask() for scene in examples], examples)
    assert folder.class_names == source.class_names == converted.class_names
    np.testing.assert_array_equal(folder.palette, source.palette)
    for split in source.splits:
        names = [[image.name for image, _ in each.paths(split)] for each in (source, folder)]
        assert names[0] == names[1]
    image = (tmp_path / "out" / "images" / "photo00.png").read_bytes()
    assert image == (tmp_path / "in" / "ds1" / "img" / "photo00.png").read_bytes()
    with Image.open(tmp_path / "out" / "labels" / "photo00.png") as label:
        assert label.mode == "P" and label.getpalette()[3:6] == list(label_tools.COLORS["cat"])


def test_the_summary_counts_pixels_and_images(source, tmp_path, examples):
    converted = convert_labels(source, tmp_path / "out", progress=False)
    masks = [scene.mask() for scene in examples]
    for index in range(4):
        assert converted.pixels[index] == sum((mask == index).sum() for mask in masks)
        assert converted.images[index] == sum((mask == index).any() for mask in masks)
    share = converted.pixels[1] / sum(mask.size for mask in masks)
    assert converted.summary().startswith("12 images: background ")
    assert f", cat {share:.2%} in {converted.images[1]}," in converted.summary()
    assert "ignored" not in converted.summary()


def test_splits_and_ignored_pixels_are_kept(tmp_path, examples):
    label_tools.supervisely(tmp_path / "in", examples[:2], dataset="train")
    label_tools.supervisely(tmp_path / "in", examples[2:4], dataset="val")
    source = load("supervisely", root=tmp_path / "in", unlabeled="ignore", ignore_class=9)
    converted = convert_labels(source, tmp_path / "out", progress=False)
    folder = ImageFolder(tmp_path / "out")
    assert folder.splits == ("train", "val")
    mask = label_tools.masks_of(folder, examples[:1], "train")[0]
    expected = examples[0].mask().astype(int) - 1
    np.testing.assert_array_equal(mask, np.where(expected < 0, 255, expected))
    assert (
        f"ignored {converted.pixels[-1] / converted.pixels.sum():.2%} in 4" in converted.summary()
    )


def test_links_are_the_same_files(source, tmp_path):
    convert_labels(source, tmp_path / "out", link=True, progress=False)
    one, two = (tmp_path / path for path in ("in/ds1/img/photo00.png", "out/images/photo00.png"))
    assert one.samefile(two)


def test_links_to_another_disk_are_refused(source, tmp_path, monkeypatch):
    def fail(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(
        ValueError, match=r"png: can't be linked \(Invalid cross-device link\); put"
    ):
        convert_labels(source, tmp_path / "out", link=True, progress=False)
    assert not (tmp_path / "out").exists()


def test_images_of_equal_names_get_those_of_their_folders(tmp_path, examples):
    for dataset in ("ds1", "ds2"):
        label_tools.supervisely(tmp_path / "in", examples[:2], dataset=dataset)
    convert_labels(load("supervisely", root=tmp_path / "in"), tmp_path / "out", progress=False)
    assert sorted(os.listdir(tmp_path / "out" / "images")) == [
        f"ds{i}_img_photo0{k}_png.png" for i in (1, 2) for k in (0, 1)
    ]
    assert ImageFolder(tmp_path / "out").count("all") == 4


def test_names_that_differ_in_case_are_kept_apart(tmp_path, examples):
    """Windows and macOS would write one over the other."""
    for dataset, name in (("ds1", "A"), ("ds2", "a")):
        scene = dataclasses.replace(examples[0], name=name)
        label_tools.supervisely(tmp_path / "in", [scene], dataset=dataset)
    convert_labels(load("supervisely", root=tmp_path / "in"), tmp_path / "out", progress=False)
    names = sorted(os.listdir(tmp_path / "out" / "images"))
    assert names == ["ds1_img_A_png.png", "ds2_img_a_png.png"]


def test_class_names_that_differ_in_spaces_are_refused_before_the_conversion(source, tmp_path):
    pairs = {"train": source.paths("all")}
    twice = ImagePairs(pairs, class_names=("a b", "a  b"), read_label=lambda path: 1 / 0)
    with pytest.raises(ValueError, match="the source: class 'a b' occurs twice; names must differ"):
        convert_labels(twice, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_other_bands_and_sources_without_a_root_are_converted(tmp_path):
    pytest.importorskip("rasterio", reason="rasterio isn't installed")
    roots = [band_folder(tmp_path / name, 4, "uint16") for name in ("a", "b")]
    source = JoinedPairs([ImageFolder(root, channels=4) for root in roots])
    convert_labels(source, tmp_path / "out", progress=False)
    folder = ImageFolder(tmp_path / "out", channels=4)
    assert folder.count("train") == 8
    np.testing.assert_array_equal(folder.example("val", 0)[0], source.example("val", 0)[0])


def test_an_output_with_files_is_refused(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(ValueError, match=r"out is not empty \(mine.txt\); choose another --output"):
        convert_labels(source, tmp_path / "out")
    with pytest.raises(ValueError, match=r"mine.txt is a file; the output must be a folder"):
        convert_labels(source, tmp_path / "out" / "mine.txt")
    assert os.listdir(tmp_path / "out") == ["mine.txt"]


def test_an_empty_output_is_filled_and_a_failure_leaves_nothing(source, tmp_path):
    (tmp_path / "out").mkdir()
    broken = tmp_path / "in" / "ds1" / "ann" / "photo05.png.json"
    text = broken.read_text()
    broken.write_text(text.replace('"origin"', '"o"', 1))
    with pytest.raises(
        ValueError, match=r"photo05.png.json: object 1, a bitmap, .* lacks its points"
    ):
        convert_labels(source, tmp_path / "out", progress=False)
    assert os.listdir(tmp_path / "out") == [] and sorted(os.listdir(tmp_path)) == ["in", "out"]
    broken.write_text(text)
    convert_labels(source, tmp_path / "out", progress=False)
    assert sorted(os.listdir(tmp_path / "out")) == [
        "classes.txt",
        "images",
        "labels",
        "palette.txt",
    ]


def test_splits_that_a_folder_cannot_have_are_refused(tmp_path, source):
    pairs = source.paths("all")
    other = ImagePairs(
        {"extra": pairs}, class_names=source.class_names, read_label=source.read_label
    )
    with pytest.raises(
        ValueError, match="split 'extra' of the source can't be converted; its folder"
    ):
        convert_labels(other, tmp_path / "out", progress=False)


def test_splits_without_labels_are_left_out(tmp_path, source, capsys):
    pairs = source.paths("all")
    images = [(image, None) for image, _ in pairs]
    other = ImagePairs(
        {"train": pairs, "test": images},
        class_names=source.class_names,
        read_label=source.read_label,
    )
    convert_labels(other, tmp_path / "out", progress=False)
    assert "split 'test' has no labels and is left out" in capsys.readouterr().err
    assert ImageFolder(tmp_path / "out").splits == ("train",)


def test_a_label_of_another_size_is_refused(tmp_path, source):
    image, _ = source.paths("all")[0]
    label = tmp_path / "small.png"
    Image.new("L", (3, 2)).save(label)
    other = ImagePairs({"train": [(image, label)]}, class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"small.png: label is 3x2 but its image is"):
        convert_labels(other, tmp_path / "out", progress=False)
