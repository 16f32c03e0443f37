"""Reads labeled images of any data source, with their numbers and names."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.examination import examine_pairs
from keras_psp.data.identity import data_identity
from keras_psp.data.report import DataReport
from keras_psp.data.sets.cityscapes import Cityscapes
from keras_psp.files import file_digest, printable
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.models.pspnet import PSPNet
from keras_psp.progress import ahead


class Examples:
    """Names, images and masks in order, from anything that `evaluate` takes as data.

    Classes, colors and `ignore_class` are those of the source, or else the model's. If the number
    of examples is unknown, `count` is None and `end` is very large. `description` describes the
    data, as plain data for JSON. With `limit`, only the first `limit` examples are used.
    """

    def __init__(self, dataset: Any, split: str, model: PSPNet, limit: int | None):
        source: Any = getattr(dataset, "source", None)
        self.split = getattr(dataset, "name", None)
        if hasattr(dataset, "splits"):
            source, self.split = dataset, split
        self._source, self._pairs = source, dataset
        self.num_classes = model.num_classes
        if source is None:
            self.ignore_class = 255 if model.num_classes <= 255 else -1
            self.class_names, self.palette = class_names_of(model), palette_of(model)
            self.count = _length(dataset)
        else:
            self.ignore_class = source.ignore_class
            self.class_names, self.palette = tuple(source.class_names), np.asarray(source.palette)
            self.count = source.count(self.split)
            self._check_source(model)
        if limit is not None:
            self.count = limit if self.count is None else min(limit, self.count)
        self.end = 2**62 if self.count is None else self.count
        self.description: dict[str, Any] = {
            "name": getattr(source, "title", None) or type(source or dataset).__name__,
            "split": self.split,
            "images": self.count,
        }
        for key in ("root", "image_size", "seed"):
            if hasattr(source, key):
                self.description[key] = str(getattr(source, key))
        self._names = None
        if hasattr(source, "paths"):
            self._names = _names([pair[0] for pair in source.paths(self.split)])

    @property
    def in_files(self) -> bool:
        """Whether every image and label is a file."""
        return hasattr(self._source, "to_classes") and hasattr(self._source, "paths")

    def identity(self, *, progress: bool) -> dict[str, Any] | None:
        """Returns what the results depend on in the data, see `data_identity`; None for pairs.

        Reads all files now, so that a faulty one raises a ValueError before long work begins.
        Prints what is unusual on stderr.
        """
        if self._source is None:
            return None
        split = str(self.split)
        if not self.in_files:
            return data_identity(self._source, [split])
        pairs = self._source.paths(split)[: self.count]
        found = list(examine_pairs(self._source, pairs, progress=progress))
        report = DataReport(self._source, {split: found})
        report.require()
        report.print_notes()
        identity = data_identity(self._source, [split], {split: found})
        if self.has_instances:
            for index, row in enumerate(identity["splits"][split]):
                row[2] += file_digest(self._source.instance_file(split, index))
        return identity

    def _check_source(self, model):
        source = self._source
        if source.num_classes != self.num_classes:
            raise ValueError(
                f"the network has {self.num_classes} classes but the data has "
                f"{source.num_classes}; evaluate it on data with its own classes."
            )
        names = model.class_names or ()
        if set(names) == set(self.class_names) and tuple(names) != self.class_names:
            pairs = enumerate(zip(names, self.class_names, strict=True))
            index, name, other = next((i, a, b) for i, (a, b) in pairs if a != b)
            raise ValueError(
                f"class {index} is {name!r} in the network but {other!r} in the data, whose class "
                "names are the same in another order; restore the order of the training."
            )
        if hasattr(source, "labeled") and not source.labeled(self.split):
            raise ValueError(
                f"split {self.split!r} has no labels; choose another split, or use "
                "keras_psp.predict."
            )

    @property
    def in_any_order(self) -> bool:
        """Whether examples can be read by their number."""
        if self._source is None:
            return hasattr(self._pairs, "__getitem__") and hasattr(self._pairs, "__len__")
        return hasattr(self._source, "example")

    def _at(self, index):
        if self._source is None:
            return self._pairs[index]
        return self._source.example(self.split, index)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
        """Yields (number, name, image, mask); the next ones are decoded in threads.

        The indices must increase. Unless `in_any_order`, they must be a range up to `end`.
        """
        if not indices:
            return
        if self.in_any_order:
            pairs: Any = ahead(lambda i: (i, self._at(i)), indices)
        else:
            source = self._source
            pairs = self._pairs if source is None else source.examples(self.split)
            if hasattr(pairs, "as_numpy_iterator"):
                pairs = pairs.as_numpy_iterator()
            pairs = enumerate(itertools.islice(pairs, indices[0], self.end), indices[0])
        for index, (image, mask) in pairs:
            name = f"{index:06d}" if self._names is None else self._names[index]
            yield index, name, image, self._checked(name, image, mask)

    def _checked(self, name, image, mask):
        mask = _integers(name, np.asarray(mask))
        if mask.ndim == 3 and mask.shape[-1] == 1:
            mask = mask[..., 0]
        if mask.shape != np.shape(image)[:2]:
            raise ValueError(
                f"{name}: the mask is {mask.shape} but the image is {np.shape(image)[:2]} "
                "(height, width); they must have the same size."
            )
        wrong = mask[((mask < 0) | (mask >= self.num_classes)) & (mask != self.ignore_class)]
        if wrong.size:
            raise ValueError(
                f"{name}: the mask has the value {wrong[0]}, but there are "
                f"{self.num_classes} classes and ignore_class is {self.ignore_class}."
            )
        return mask

    @property
    def has_instances(self) -> bool:
        """Whether the data is a split of Cityscapes with fine labels."""
        return isinstance(self._source, Cityscapes) and self.split in ("train", "val")

    def instances(self, index: int) -> np.ndarray | None:
        """Returns the instance ids of an image of Cityscapes, otherwise None."""
        return self._source.instances(self.split, index) if self.has_instances else None


def _integers(name, mask):
    """Returns class indices as integers, whatever type holds them, as in a training."""
    if mask.dtype.kind == "b":
        return mask.astype(np.uint8)
    if mask.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # NaN
            whole = mask.astype(np.int64)
        if (fractions := mask[mask != whole]).size:
            raise ValueError(
                f"{name}: the mask has the value {fractions[0]}; class indices are whole numbers."
            )
        return whole
    if mask.dtype.kind not in "iu":
        raise ValueError(f"{name}: the mask has dtype {mask.dtype}; it must be class indices.")
    return mask


def _names(paths):
    """Unique names of images: file names, or relative paths if some repeat.

    Suffixes are left out unless some names differ only by them.
    """
    paths = [Path(printable(path)) for path in paths]
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(common) for path in paths]
    stems = [name.with_suffix("").as_posix() for name in names]
    return stems if len(set(stems)) == len(stems) else [name.as_posix() for name in names]


def _length(pairs: Any) -> int | None:
    if hasattr(pairs, "cardinality"):
        count = int(pairs.cardinality())
        return count if count >= 0 else None
    return len(pairs) if hasattr(pairs, "__len__") else None
