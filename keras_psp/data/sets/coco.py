"""COCO's panoptic labels and COCO-Stuff."""

import json
import threading
from pathlib import Path

import numpy as np

from keras_psp.data.label_files import read_training_image
from keras_psp.data.pairs import Pair
from keras_psp.data.sets.published import (
    VOID,
    DataSet,
    PublishedSet,
    find_home,
    first_existing,
    folder_pairs,
)

# nightrome/cocostuff, labels.txt: ids of things that no image has; 1 less in the files.
_COCO_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)

# cocodataset/panopticapi, panoptic_coco_categories.json.
# fmt: off
COCO_CATEGORIES = (
    *(i for i in range(1, 91) if i not in _COCO_UNUSED),
    92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147,
    148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181,
    *range(184, 201),
)
# fmt: on

# Categories that are VOC's classes 1 to 20, as in gluon-cv's mscoco/segmentation.py.
_VOC_IN_COCO = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)


def open_coco_stuff(entry: DataSet, root: Path, *, complete: bool) -> PublishedSet:
    home = root / "coco_stuff164k" if (root / "coco_stuff164k").is_dir() else root
    label_home = first_existing(home / "stuffthingmaps", home / "annotations")
    if label_home is None:
        raise ValueError(f"{home}: stuffthingmaps isn't here.\n{entry.help()}")
    pairs = {}
    for split in ("train", "val"):
        images = first_existing(home / "images" / f"{split}2017", home / f"{split}2017")
        if images is not None:
            pairs[split] = folder_pairs(images, label_home / f"{split}2017", complete=complete)
    values = [i - 1 for i in range(1, 183) if i not in _COCO_UNUSED]
    lookup = {**{value: index for index, value in enumerate(values)}, 255: VOID}
    return PublishedSet(entry, home, pairs, complete=complete, lookup=lookup)


def open_coco(entry: DataSet, root: Path, *, complete: bool, classes: str = "coco") -> PublishedSet:
    if classes not in ("coco", "voc2012"):
        raise ValueError(
            f"classes is {classes!r}; it must be 'coco' (133 classes) or 'voc2012' (its 20, "
            "everything else background)."
        )
    home = find_home(entry, root, "annotations", "coco")
    pairs: dict[str, list[Pair]] = {}
    for split in ("train", "val"):
        images = first_existing(home / "images" / f"{split}2017", home / f"{split}2017")
        if images is not None:
            name = f"panoptic_{split}2017"
            usual = home / "annotations" / name
            masks = first_existing(usual, home / name) or usual
            pairs[split] = folder_pairs(images, masks, complete=complete)
    if classes == "coco":
        lookup = {value: index for index, value in enumerate(COCO_CATEGORIES)}
    else:
        lookup = dict.fromkeys(COCO_CATEGORIES, 0)
        lookup.update({value: index for index, value in enumerate(_VOC_IN_COCO, start=1)})
    return PublishedSet(
        entry,
        home,
        pairs,
        complete=complete,
        lookup={0: VOID, **lookup},
        read_label=_Panoptic(home / "annotations").read,
        labels_key=classes,
    )


class _Panoptic:
    """Reads category ids from COCO's panoptic PNGs, whose colors number segments."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._lock = threading.Lock()
        self._tables: dict[str, dict[str, np.ndarray]] = {}

    def read(self, path: Path) -> np.ndarray:
        """Reads a PNG as (height, width) uint8; 0 means no segment."""
        segments = self._table(path.parent.name).get(path.name)
        if segments is None:
            raise ValueError(
                f"{path}: {self._folder / path.parent.name}.json doesn't list this file; unpack "
                "panoptic_annotations_trainval2017.zip again."
            )
        colors = read_training_image(path).astype(np.int32)
        ids = colors @ np.array([1, 256, 65536], np.int32)
        known, categories = segments
        position = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        unknown = ids[known[position] != ids]
        if unknown.size:
            raise ValueError(
                f"{path}: segment {unknown[0]} isn't in {self._folder / path.parent.name}.json; "
                "the PNG and the list are of different versions."
            )
        return categories[position].astype(np.uint8)

    def _table(self, name):
        """Maps file names to (2, segments) int32: sorted ids and their categories, from 0 and 0."""
        with self._lock:
            if name not in self._tables:
                path = self._folder / f"{name}.json"
                try:
                    annotations = json.loads(path.read_text("utf-8"))["annotations"]
                    self._tables[name] = {
                        entry["file_name"]: _segments(entry["segments_info"])
                        for entry in annotations
                    }
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{path}: can't be read ({error!r}); unpack "
                        "panoptic_annotations_trainval2017.zip again."
                    ) from error
            return self._tables[name]


def _segments(infos):
    pairs = [(0, 0), *((info["id"], info["category_id"]) for info in infos)]
    return np.array(sorted(pairs), np.int32).T
