import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support.datasets import write_example

from keras_psp.data import GeneratedScenes, ImageFolder, ImagePairs, examine
from keras_psp.data.identity import data_difference, data_identity, renamed_files


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            write_example(tmp_path / "data" / split, f"{split}{index}", value=index % 3)
            # Images of one content can't be told apart when they are renamed.
            Image.new("RGB", (6, 4), (index, len(split), 0)).save(
                tmp_path / "data" / split / "images" / f"{split}{index}.png"
            )
    (tmp_path / "data" / "classes.txt").write_text("sky\ncar\ntree\n")
    return tmp_path / "data"


def opened(folder, **arguments):
    return ImageFolder(folder, **arguments)


def identity(source, *, by="content"):
    examined = examine(source, progress=False).examined if by == "content" else None
    found = data_identity(source, ("train", "val"), examined)
    return json.loads(json.dumps(found))  # as it is read back


def write_label(folder, name, value):
    Image.new("L", (6, 4), value).save(folder / "train" / "labels" / f"{name}.png")


def test_the_same_data_has_no_difference_wherever_it_is(folder, tmp_path):
    before = identity(opened(folder))
    assert data_difference(before, identity(opened(folder))) == ""
    shutil.move(folder, tmp_path / "moved")
    assert data_difference(before, identity(opened(tmp_path / "moved"))) == ""
    assert before["splits"]["train"][0][0] == "train/images/train0.png"


@pytest.mark.parametrize("by", ["content", "size"])
def test_changed_files_are_counted_and_the_first_is_named(folder, by):
    before = identity(opened(folder), by=by)
    for name in ("train1", "train2"):
        Image.fromarray(np.eye(4, 6, dtype=np.uint8)).save(
            folder / "train" / "labels" / f"{name}.png"
        )
    assert data_difference(before, identity(opened(folder), by=by)) == (
        "2 of 4 labels in split 'train' were changed (first train/images/train1.png)"
    )
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(noise).save(folder / "val" / "images" / "val1.png")
    difference = data_difference(before, identity(opened(folder), by=by))
    assert difference.endswith(
        ", and 1 of 2 images in split 'val' were changed (first val/images/val1.png)"
    )


def test_a_label_of_the_same_size_is_found_by_content_only(folder):
    label = folder / "train" / "labels" / "train0.png"
    before = {by: identity(opened(folder), by=by) for by in ("content", "size")}
    content = bytearray(label.read_bytes())
    content[-1] ^= 1  # part of the last checksum
    label.write_bytes(content)
    assert data_difference(before["content"], identity(opened(folder)))
    assert not data_difference(before["size"], identity(opened(folder), by="size"))


def test_added_removed_and_renamed_files(folder):
    before = identity(opened(folder))
    write_example(folder / "train", "new", value=1)
    for kind in ("images", "labels"):
        (folder / "train" / kind / "train3.png").unlink()
        (folder / "train" / kind / "train0.png").rename(folder / "train" / kind / "z.png")
    assert data_difference(before, identity(opened(folder))) == (
        "1 of 4 images in split 'train' were renamed (first train/images/train0.png), and 1 of 4 "
        "images in split 'train' were added (first train/images/new.png), and 1 of 4 images in "
        "split 'train' were removed (first train/images/train3.png)"
    )


def test_other_names_for_the_same_contents_in_the_same_order_are_no_difference(folder):
    before = identity(opened(folder))
    for kind in ("images", "labels"):
        (folder / "train" / kind / "train0.png").rename(folder / "train" / kind / "a.png")
    present = identity(opened(folder))
    assert data_difference(before, present) == ""
    assert renamed_files(before, present) == 1
    # By size nothing is known about the contents.
    assert data_difference(before, identity(opened(folder), by="size")) == (
        "1 of 4 images in split 'train' were added (first train/images/a.png), and 1 of 4 images "
        "in split 'train' were removed (first train/images/train0.png)"
    )


def test_another_order_is_a_difference():
    def listed(*names):
        pairs = {"train": [(f"{name}.jpg", f"{name}.png") for name in names], "val": []}
        return {"class_names": ["a", "b"], "ignore_class": 255, "values": None} | {
            "compared by": "content",
            "splits": {"train": [[image, image, label] for image, label in pairs["train"]]},
        }

    assert data_difference(listed("a", "b"), listed("b", "a")) == (
        "the images in split 'train' are in another order"
    )


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        ("car\nsky\ntree\n", "class 0 is 'car', not 'sky' (1 more differ)"),
        ("sky\ncar\nbush\n", "class 2 is 'bush', not 'tree'"),
        ("sky\ncar\ntree\nsea\n", "there are 4 classes, not 3"),
    ],
)
def test_other_classes(folder, names, difference):
    before = identity(opened(folder))
    (folder / "classes.txt").write_text(names)
    assert data_difference(before, identity(opened(folder))) == difference


def test_other_meanings_of_label_values(folder):
    def pairs(lookup, ignore_class=255):
        source = opened(folder)
        paths = {split: source.paths(split) for split in ("train", "val")}
        names = ("sky", "car", "tree")
        return ImagePairs(paths, class_names=names, lookup=lookup, ignore_class=ignore_class)

    before = identity(pairs({0: 0, 1: 1, 2: 2}))
    assert data_difference(before, identity(pairs({0: 0, 1: 2, 2: 2}))) == (
        "label value 1 is class 2, not class 1"
    )
    assert data_difference(before, identity(pairs({0: 0, 1: 1, 2: 2, 9: 1}))) == (
        "label value 9 is class 1, not refused"
    )
    assert data_difference(before, identity(pairs({0: 0, 1: 1, 2: 2}, ignore_class=9))) == (
        "ignore_class is 9, not 255"
    )


def test_sources_without_files_are_compared_by_their_arguments_and_first_example():
    def scenes(seed=0, count=2):
        counts = {"train": count, "val": 1}
        source = GeneratedScenes(seed=seed, image_size=(48, 48), counts=counts)
        return json.loads(json.dumps(data_identity(source, ("train", "val"))))

    assert data_difference(scenes(), scenes()) == ""
    assert data_difference(scenes(), scenes(seed=1)) == "the seed is 1, not 0"
    assert data_difference(scenes(), scenes(count=3)) == (
        "the number of images in split 'train' is 3, not 2"
    )

    class InMemory(GeneratedScenes):
        def example(self, split, index):
            return tuple(part[index] for part in self.values)

    source = InMemory(image_size=(48, 48), counts={"train": 2, "val": 1})
    source.values = source.arrays("train")
    before = data_identity(source, ("train", "val"))
    source.values[1][0, 0, 0] ^= 1
    assert data_difference(before, data_identity(source, ("train", "val"))) == (
        "the first example of split 'train' was changed, and the first example of split 'val' "
        "was changed"
    )


def test_labels_that_are_read_in_another_way_are_noticed_without_their_contents(folder):
    def maps(label_map=None):
        return identity(ImageFolder(folder, label_map=label_map), by="size")

    assert data_difference(maps(), maps()) == ""
    assert data_difference(maps(), maps({0: 1})) == (
        "the first example of split 'train' is read in another way, and the first example of split "
        "'val' is read in another way"
    )
