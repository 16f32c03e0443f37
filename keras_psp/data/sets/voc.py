"""PASCAL VOC 2012, with the additional labels of SBD."""

import functools
import os
from pathlib import Path

from keras_psp.data.label_files import by_stem, read_mask, read_mat
from keras_psp.data.pairs import Pair
from keras_psp.data.sets.published import (
    DataSet,
    PublishedSet,
    first_existing,
    listed_names,
    listed_pairs,
)
from keras_psp.files import local_path


def open_voc2012(
    entry: DataSet, root: Path, *, complete: bool, sbd: str | os.PathLike | None = None
) -> PublishedSet:
    home = entry.find_home(root, "JPEGImages", "VOC2012", "VOCdevkit/VOC2012")
    lists = home / "ImageSets" / "Segmentation"
    images = by_stem(home / "JPEGImages", (".jpg",))
    folder = home / "SegmentationClass"
    labels = by_stem(folder, (".png",)) if folder.is_dir() else {}
    pairs_of = functools.partial(
        listed_pairs, images=images, image_folder=home / "JPEGImages", complete=complete
    )
    names = {
        split: listed_names(lists / f"{split}.txt")
        for split in ("train", "val", "trainval", "test")
        if (lists / f"{split}.txt").is_file()
    }
    pairs: dict[str, list[Pair]] = {}
    augmented = _augmented(entry, home, names, labels, sbd)
    if augmented is not None:
        pairs["train"] = pairs_of(**augmented)
    for split, of_list in (("train_voc", "train"), ("val", "val"), ("trainval", "trainval")):
        if of_list in names:
            pairs[split] = pairs_of(
                names[of_list],
                labels=labels,
                origin=lists / f"{of_list}.txt",
                label_at=(folder, ".png"),
            )
    # The list may be here without the images of VOC2012test.tar.
    test: list[Pair] = [(images[name], None) for name in names.get("test", ()) if name in images]
    if test:
        pairs["test"] = test
    return PublishedSet(entry, home, pairs, complete=complete, read_label=_read_voc)


def _augmented(entry, home, names, labels, sbd):
    """Returns the arguments of `listed_pairs` for the 10,582 examples; None without SBD."""
    ready = first_existing(home / "SegmentationClassAug")
    lists = home / "ImageSets" / "Segmentation"
    release = None
    if sbd is not None:
        release = entry.find_home(local_path("sbd", sbd), "dataset/cls", "benchmark_RELEASE")
    elif ready is None:
        release = first_existing(
            *(folder / "benchmark_RELEASE" for folder in (home, *list(home.parents)[:2])),
            home.parent / "VOCaug",
        )
    if release is None and ready is None:
        return None
    folder, suffix = (ready, ".png") if release is None else (release / "dataset" / "cls", ".mat")
    extra = by_stem(folder, (suffix,))
    listed = first_existing(lists / "trainaug.txt", lists / "train_aug.txt")
    train, val = names.get("train", ()), names.get("val", ())
    return {
        "origin": listed or folder,
        # Without a list, as mmsegmentation's voc_aug.py: all that has a label and isn't in val.
        "names": listed_names(listed) if listed else sorted({*train, *extra} - set(val)),
        # VOC's own labels if there are any: they have the void borders that SBD's lack.
        "labels": {**extra, **{name: labels[name] for name in train if name in labels}},
        "label_at": (folder, suffix),
    }


def _read_voc(path):
    return read_mat(path, "GTcls", "Segmentation") if path.suffix == ".mat" else read_mask(path)
