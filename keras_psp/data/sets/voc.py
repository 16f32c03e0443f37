"""TODO."""

from pathlib import Path

from keras_psp.data.label_files import (
    by_stem,
    read_mask,
    read_mat,
)
from keras_psp.data.pairs import Pair
from keras_psp.data.sets.published import (
    VOID,
    DataSet,
    PublishedSet,
    _choose,
    _first,
    _home,
    _listed,
)


def _voc2012(entry, root, *, complete, sbd=None):
    home = _home(entry, root, "JPEGImages", "VOC2012", "VOCdevkit/VOC2012")
    lists = home / "ImageSets" / "Segmentation"
    images = by_stem(home / "JPEGImages", (".jpg",))
    own = home / "SegmentationClass"
    labels = by_stem(own, (".png",)) if own.is_dir() else {}

    def chosen(origin, names, labels, label_at):
        return _choose(
            names,
            images,
            labels,
            complete=complete,
            origin=origin,
            image_home=home / "JPEGImages",
            label_at=label_at,
        )

    names = {
        split: _listed(lists / f"{split}.txt")
        for split in ("train", "val", "trainval", "test")
        if (lists / f"{split}.txt").is_file()
    }
    pairs: dict[str, list[Pair]] = {}
    augmented = _augmented(entry, home, names, labels, sbd)
    if augmented is not None:
        pairs["train"] = chosen(*augmented)
    for split, of_list in (("train_voc", "train"), ("val", "val"), ("trainval", "trainval")):
        if of_list in names:
            pairs[split] = chosen(
                lists / f"{of_list}.txt", names[of_list], labels, lambda name: own / f"{name}.png"
            )
    if "test" in names:
        here = [(images[name], None) for name in names["test"] if name in images]
        # The list may be here without the pictures of VOC2012test.tar.
        if here:
            pairs["test"] = here
    return PublishedSet(
        entry,
        home,
        pairs,
        complete=complete,
        lookup={**{value: value for value in range(21)}, 255: VOID},
        read_label=_read_voc,
    )


def _augmented(entry, home, names, labels, sbd):
    """(list, names, labels, where a label belongs) of the 10,582, or None without SBD."""
    ready = _first(home / "SegmentationClassAug")
    lists = home / "ImageSets" / "Segmentation"
    release = None
    if sbd is not None:
        release = _home(entry, Path(sbd), "dataset/cls", "benchmark_RELEASE")
    elif ready is None:
        release = _first(
            *(folder / "benchmark_RELEASE" for folder in (home, *list(home.parents)[:2])),
            home.parent / "VOCaug",
        )
    if release is None and ready is None:
        return None
    if release is None:
        extra, folder, suffix = by_stem(ready, (".png",)), ready, ".png"
    else:
        folder, suffix = release / "dataset" / "cls", ".mat"
        extra = by_stem(folder, (suffix,))
    listed = _first(lists / "trainaug.txt", lists / "train_aug.txt")
    if listed is not None:
        chosen = _listed(listed)
    else:
        # As mmsegmentation's voc_aug.py: everything that has a label and isn't in VOC's val.
        listed = folder
        chosen = sorted((set(names.get("train", ())) | set(extra)) - set(names.get("val", ())))
    # VOC's own labels where there are any; they have the void border that SBD's lack.
    merged = {**extra, **{n: labels[n] for n in names.get("train", ()) if n in labels}}
    return listed, chosen, merged, lambda name: folder / f"{name}{suffix}"


def _read_voc(path):
    return read_mat(path, "GTcls", "Segmentation") if path.suffix == ".mat" else read_mask(path)


VOC2012 = DataSet(
    key="voc2012",
    title="PASCAL VOC 2012",
    summary="21 classes, one of them background; train is the augmented one (SBD)",
    open=_voc2012,
    counts={
        "train": 10_582,
        "train_voc": 1_464,
        "val": 1_449,
        "trainval": 2_913,
        "test": 1_456,
    },
    optional=("train", "trainval", "test"),
    where=(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (VOCtrainval_11-May-2012.tar; "
        "VOC2012test.tar after registration) and "
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
        "semantic_contours/benchmark.tgz (SBD; or SegmentationClassAug made of it)"
    ),
    layout="""
JPEGImages/2007_000032.jpg ...
SegmentationClass/2007_000032.png ...
ImageSets/Segmentation/train.txt, val.txt, trainval.txt, test.txt
SegmentationClassAug/2007_000032.png ... and ImageSets/Segmentation/trainaug.txt,
or benchmark_RELEASE/dataset/cls/2008_000002.mat ... (here, above, or at sbd=...; extra 'mat')
""",
    options=("sbd",),
)
