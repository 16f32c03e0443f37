"""Roboflow's "Semantic Segmentation Masks": NAME_mask.png next to NAME.jpg, and _classes.csv."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_psp.data.division import MayBeFlat, divided, split_folders
from keras_psp.data.images import IMAGE_SUFFIXES
from keras_psp.data.label_files import by_stem, read_text
from keras_psp.data.pairs import ImagePairs, Pair, matched
from keras_psp.files import local_path

CLASSES = "_classes.csv"
_MARK = "_mask"


class RoboflowMasks(MayBeFlat, ImagePairs):
    """Images and masks that Roboflow exports as "Semantic Segmentation Masks".

    The folder contains train, valid and test, or some of them, or it is one of these itself. The
    names and values of the classes are in the _classes.csv of each; 0 is usually the background.

    Args:
        root: the folder of the export.
        ignore_class: value of pixels that don't count, 0 to 255.
        class_names: other names, in the order of _classes.csv.
        palette: (num_classes, 3), RGB 0 to 255.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        ignore_class: int = 255,
        class_names: Sequence[str] | None = None,
        palette: Sequence | np.ndarray | None = None,
    ):
        self.root = local_path("root", root)
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder.")
        self._flat = (self.root / CLASSES).is_file()
        folders = {"all": self.root} if self._flat else split_folders(self.root)
        folders = {s: folder for s, folder in folders.items() if (folder / CLASSES).is_file()}
        if not folders:
            raise ValueError(
                f"{self.root}: neither it nor its train/, valid/ and test/ have {CLASSES}; export "
                "the data set from Roboflow as 'Semantic Segmentation Masks'."
            )
        classes = {split: _classes(folder / CLASSES) for split, folder in folders.items()}
        first = next(iter(classes))
        for split, values in classes.items():
            if values != classes[first]:
                raise ValueError(
                    f"{folders[split] / CLASSES}: lists other classes than "
                    f"{folders[first] / CLASSES}; export both in one version."
                )
        names = tuple(classes[first].values())
        if class_names is not None and len(class_names) != len(names):
            raise ValueError(
                f"class_names has {len(class_names)} names, but {CLASSES} has {len(names)} classes."
            )
        pairs = {split: _pairs_in(folder) for split, folder in folders.items()}
        if self._flat:
            pairs = divided(pairs["all"])
        super().__init__(
            pairs,
            class_names=names if class_names is None else class_names,
            palette=palette,
            ignore_class=ignore_class,
            lookup={
                ignore_class: ignore_class,
                **{value: index for index, value in enumerate(classes[first])},
            },
            title=f"Roboflow masks in {self.root}",
        )


def _classes(path: Path) -> dict[int, str]:
    """Returns the names in _classes.csv by their pixel values."""
    classes: dict[int, str] = {}
    rows = [row for row in csv.reader(read_text(path).splitlines()) if any(row)]
    for number, row in enumerate(rows[1:], 2):
        fields = [field.strip() for field in row]
        if len(fields) != 2 or not fields[0].isdecimal() or int(fields[0]) > 255 or not fields[1]:
            raise ValueError(
                f"{path}, line {number}: {','.join(row)!r} isn't `pixel value, class`; export the "
                "data set again."
            )
        if int(fields[0]) in classes or fields[1] in classes.values():
            raise ValueError(f"{path}, line {number}: {','.join(row)!r} occurs twice; remove one.")
        classes[int(fields[0])] = fields[1]
    if not classes:
        raise ValueError(f"{path}: lists no classes; export the data set again.")
    return classes


def _pairs_in(folder: Path) -> list[Pair]:
    files = by_stem(folder, IMAGE_SUFFIXES)
    masks = {stem.removesuffix(_MARK): path for stem, path in files.items() if stem.endswith(_MARK)}
    images = {stem: path for stem, path in files.items() if not stem.endswith(_MARK)}
    if not files:
        raise ValueError(f"{folder}: no images in this folder; export the data set again.")
    return matched(images, masks, image_folder=folder, label_at=(folder, f"{_MARK}.png"))
