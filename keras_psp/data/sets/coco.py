"""COCO's panoptic labels and COCO-Stuff."""

import json
import threading
from pathlib import Path

import numpy as np

from keras_psp.data.images import read_image
from keras_psp.data.pairs import Pair
from keras_psp.data.sets.published import VOID, DataSet, PublishedSet, first_existing, folder_pairs

# Categories that are VOC's classes 1 to 20, as in gluon-cv's mscoco/segmentation.py.
_VOC_IN_COCO = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)


def open_coco_stuff(entry: DataSet, root: Path, *, complete: bool) -> PublishedSet:
    home = root / "coco_stuff164k" if (root / "coco_stuff164k").is_dir() else root
    label_home = first_existing(home / "stuffthingmaps", home / "annotations")
    if label_home is None:
        raise entry.missing(f"{home}: stuffthingmaps isn't here; unpack all of this.")
    pairs = {}
    for split in ("train", "val"):
        images = first_existing(home / "images" / f"{split}2017", home / f"{split}2017")
        if images is not None:
            pairs[split] = folder_pairs(images, label_home / f"{split}2017", complete=complete)
    # nightrome/cocostuff, labels.txt: values are 1 less; no image has the 11 that are left out.
    return PublishedSet(entry, home, pairs, complete=complete)


def open_coco(entry: DataSet, root: Path, *, complete: bool, classes: str = "coco") -> PublishedSet:
    if classes not in ("coco", "voc2012"):
        raise ValueError(
            f"classes is {classes!r}; it must be 'coco' (133 classes) or 'voc2012' (its 20, "
            "everything else background)."
        )
    home = entry.find_home(root, "annotations", "coco")
    pairs: dict[str, list[Pair]] = {}
    for split in ("train", "val"):
        images = first_existing(home / "images" / f"{split}2017", home / f"{split}2017")
        if images is not None:
            name = f"panoptic_{split}2017"
            usual = home / "annotations" / name
            masks = first_existing(usual, home / name) or usual
            pairs[split] = folder_pairs(images, masks, complete=complete)
    lookup = dict(entry.lookup)  # cocodataset/panopticapi, panoptic_coco_categories.json
    if classes == "voc2012":
        lookup = {**dict.fromkeys(lookup, 0), 0: VOID}
        lookup.update({value: index for index, value in enumerate(_VOC_IN_COCO, start=1)})
    return PublishedSet(
        entry,
        home,
        pairs,
        complete=complete,
        lookup=lookup,
        read_label=_Panoptic(home / "annotations").read,
        labels_key=classes,
    )


class _Panoptic:
    """Reads category ids from COCO's panoptic PNGs, whose colors are segment ids."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._lock = threading.Lock()
        self._tables: dict[Path, dict[str, np.ndarray]] = {}

    def read(self, path: Path) -> np.ndarray:
        """Reads a PNG as (height, width) uint8; 0 means no segment."""
        listed = self._folder / f"{path.parent.name}.json"
        segments = self._table(listed).get(path.name)
        if segments is None:
            raise ValueError(
                f"{path}: {listed} doesn't list this file; unpack "
                "panoptic_annotations_trainval2017.zip again."
            )
        colors = read_image(path).astype(np.int32)
        ids = colors @ np.array([1, 256, 65536], np.int32)
        known, categories = segments
        position = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        unknown = ids[known[position] != ids]
        if unknown.size:
            raise ValueError(
                f"{path}: segment {unknown[0]} isn't in {listed}; the PNG and the list are of "
                "different versions."
            )
        return categories[position].astype(np.uint8)

    def _table(self, path):
        """Maps file names to (2, segments) int32: sorted ids, from 0, and their categories."""
        with self._lock:
            if path not in self._tables:
                try:
                    table = {}
                    for image in json.loads(path.read_text("utf-8"))["annotations"]:
                        pairs = [(s["id"], s["category_id"]) for s in image["segments_info"]]
                        table[image["file_name"]] = np.array(sorted([(0, 0), *pairs]), np.int32).T
                    self._tables[path] = table
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{path}: can't be read ({error!r}); unpack "
                        "panoptic_annotations_trainval2017.zip again."
                    ) from error
            return self._tables[path]
