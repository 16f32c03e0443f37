"""Where a job's images and labels come from."""

import dataclasses
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from keras_psp.beam import records
from keras_psp.beam.handler import Failure
from keras_psp.beam.results import is_result
from keras_psp.beam.storage import absolute, matches, read_bytes
from keras_psp.data.images import MAX_PIXELS, read_input_image, source_name
from keras_psp.data.label_files import IMAGE_SUFFIXES, read_mask, read_training_image
from keras_psp.data.pairs import ImagePairs


class Item(NamedTuple):
    """One image before it is read.

    Attributes:
        name: of its results: the path below the root, without suffix.
        origin: path of the image, or of its TFRecord file and "#number".
        label: path of the label, or None.
        data: (image, label) as bytes where they were read already.
    """

    name: str
    origin: str
    label: str | None = None
    data: tuple[bytes, bytes | None] | None = None


class Failed(NamedTuple):
    """An image without a result, for the dead-letter file."""

    name: str
    origin: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files that match patterns, the job's own results left out.

        ImageFiles("ade/images/val/**.jpg", labels=[("images/", "annotations/"), (".jpg", ".png")])

    Args:
        patterns: one or several; `*` within a folder, `**` also across folders; local paths,
            gs://, s3:// or whatever Beam has a file system for.
        labels: how a label's path is made of its image's: (old, new) replacements, each of
            the last `old` in the path. Empty for no labels.
        root: folder that the results' names are relative to; by default the one in which
            every pattern begins.
    """

    patterns: str | Sequence[str]
    labels: Sequence[tuple[str, str]] = ()
    root: str | os.PathLike | None = None

    def settled(self) -> "ImageFiles":
        """The same with absolute paths."""
        given = [self.patterns] if isinstance(self.patterns, str) else self.patterns
        patterns = tuple(absolute(pattern) for pattern in given)
        if not patterns:
            raise ValueError("patterns is empty; give one, as 'photos/**.jpg'.")
        root = _folder_of(patterns) if self.root is None else absolute(self.root)
        labels = tuple((old, new) for old, new in self.labels)
        for old, _ in labels:
            if not old:
                raise ValueError("labels replaces an empty text; give (old, new), as 'images/'.")
        return ImageFiles(patterns, labels, root)

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return bool(self.labels)

    def count(self, output: str) -> int:
        """Number of images now; not cheap for many."""
        return len({path for pattern in self.patterns for path in _given(pattern, output)})

    def items(self, pipeline, output: str):
        """(name, Item) of every image, several of a name possible."""
        return (
            pipeline
            | "ImagePatterns" >> beam.Create(list(self.patterns))
            | "ImageFiles" >> beam.FlatMap(_given, output)
            | "NameImages" >> beam.Map(self.item)
        )

    def item(self, path: str) -> tuple[str, Item]:
        """The item of an image's path, by name."""
        name = result_name(path, self.root)
        return name, Item(name, path, label_path(path, self.labels) if self.labels else None)


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Images and labels that a text file lists, one `image label` a line, or `image`.

    As `keras_psp.data.FileList`: paths are relative to the root and separated by white space,
    or by a tab if they have spaces in them.

    Args:
        path: of the text file.
        root: folder, local or not, that its paths are relative to, and the results' names.
    """

    path: str | os.PathLike
    root: str | os.PathLike

    def settled(self) -> "ImageList":
        """The same with absolute paths."""
        return ImageList(absolute(self.path), absolute(self.root))

    def pairs(self) -> list[tuple[str, str | None]]:
        """Paths of images and labels."""
        pairs: list[tuple[str, str | None]] = []
        lines = read_bytes(os.fspath(self.path)).decode("utf-8-sig").splitlines()
        for number, line in enumerate(lines, start=1):
            fields = [f.strip() for f in line.split("\t")] if "\t" in line else line.split()
            if not fields:
                continue
            paths = [f"{str(self.root).rstrip('/')}/{field.lstrip('/')}" for field in fields]
            label = paths[1] if len(paths) == 2 else None
            if len(paths) > 2 or (pairs and (label is None) != (pairs[0][1] is None)):
                raise ValueError(
                    f"{self.path}, line {number}: {line.strip()!r}; every line must be "
                    "`image label`, or every line `image` (a tab between paths with spaces)."
                )
            pairs.append((paths[0], label))
        if not pairs:
            raise ValueError(f"{self.path}: lists nothing; write `image label` lines into it.")
        return pairs

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.pairs()[0][1] is not None

    def count(self, output: str) -> int:
        """Number of images."""
        return len(set(self.pairs()))

    def items(self, pipeline, output: str):
        """(name, Item) of every image, several of a name possible."""
        items = [
            Item(result_name(image, str(self.root)), image, label) for image, label in self.pairs()
        ]
        return pipeline | "ListImages" >> beam.Create([(item.name, item) for item in items])


@dataclasses.dataclass(frozen=True)
class TFRecords:
    """Images, and labels if wished, in TFRecord files of tf.train.Example.

    Features: image/encoded (a file's bytes), image/filename (its name, which the results
    get; no two records may have the same), and for labels image/segmentation/class/encoded
    (a PNG of class indices).

    Args:
        patterns: of the files, one or several.
        labelled: whether to read labels and evaluate.
    """

    patterns: str | Sequence[str]
    labelled: bool = False

    def settled(self) -> "TFRecords":
        """The same with absolute paths."""
        given = [self.patterns] if isinstance(self.patterns, str) else self.patterns
        if not given:
            raise ValueError("patterns is empty; give one, as 'val-*.tfrecord'.")
        return TFRecords(tuple(absolute(pattern) for pattern in given), self.labelled)

    def count(self, output: str) -> int | None:
        """Not known before all was read; 0 where no file matches."""
        return None if any(_given(pattern, output) for pattern in self.patterns) else 0

    def items(self, pipeline, output: str):
        """Item or Failed of every record."""
        return (
            pipeline
            | "ImagePatterns" >> beam.Create(list(self.patterns))
            | "ImageFiles" >> beam.FlatMap(_given, output)
            | "FilesApart" >> beam.Reshuffle()
            | "ReadImages" >> beam.FlatMap(record_items, self.labelled)
        )

    def names(self, pipeline, output: str):
        """(name, origin) of every record that has one."""
        return (
            pipeline
            | "NamePatterns" >> beam.Create(list(self.patterns))
            | "NameFiles" >> beam.FlatMap(_given, output)
            | "NameFilesApart" >> beam.Reshuffle()
            | "ReadNames" >> beam.FlatMap(_record_names, self.labelled)
        )


Source = ImageFiles | ImageList | TFRecords


def _given(pattern, output):
    """What matches, without the results of the job's own earlier starts."""
    return [path for path in matches(pattern) if not is_result(path, output)]


def _folder_of(patterns):
    """The deepest folder in which all patterns begin."""
    folders = [re.split(r"[*?\[]", pattern, maxsplit=1)[0].split("/")[:-1] for pattern in patterns]
    levels = zip(*folders, strict=False)
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, levels)
    return "/".join(names[0] for names in shared)


def result_name(path: str, root: Any) -> str:
    """The path below the root without an image's suffix, with "/" between folders."""
    inner = path.removeprefix(str(root).rstrip("/") + "/") if root else path
    stem, suffix = os.path.splitext(inner)
    name = stem if suffix.lower() in (*IMAGE_SUFFIXES, ".tif", ".tiff", ".gif") else inner
    return name.replace("\\", "/").lstrip("/")


def label_path(path: str, rules: Sequence[tuple[str, str]]) -> str | None:
    """The label's path; None where a rule doesn't apply."""
    for old, new in rules:
        before, found, after = path.rpartition(old)
        if not found:
            return None
        path = before + new + after
    return path


def record_items(path: str, labelled: bool) -> Iterator[Item | Failed]:
    """The items of one TFRecord file, and a Failed for what of it can't be read."""
    number = -1
    try:
        for number, record in enumerate(records.read_records(path)):
            yield _record_item(f"{path}#{number}", record, labelled)
    except Exception as error:  # of the file system, or a damaged record
        yield Failed(f"{path}#{number + 1}", path, str(error).split("\n")[0])


def _record_names(path, labelled):
    for item in record_items(path, labelled):
        if isinstance(item, Item):
            yield item.name, item.origin


def _record_item(origin, record, labelled):
    try:
        features = records.parse(record)
    except ValueError as error:
        return Failed(origin, origin, f"{origin}: {error}")
    image, filename = features.get(records.IMAGE), features.get(records.NAME)
    label = features.get(records.LABEL) if labelled else None
    needed = {records.IMAGE: image, records.NAME: filename}
    for feature, value in (needed | ({records.LABEL: label} if labelled else {})).items():
        if not isinstance(value, bytes):
            return Failed(origin, origin, f"{origin}: has no {feature}; write the record again.")
    name = result_name(filename.decode("utf-8", "replace"), "")
    return Item(name, origin, None, (image, label))


def unsafe(name: str) -> bool:
    """Whether results of the name would leave their folder, be taken for drafts, or be no files."""
    return "\0" in name or any(not part or part.startswith(".") for part in name.split("/"))


class _NamedBytes(io.BytesIO):
    """Bytes of a file whose messages name it, as those of its path would."""

    def __init__(self, data, name):
        super().__init__(data)
        self.name = name

    def __str__(self):
        return self.name

    def __repr__(self):
        return repr(self.name)


def decode_image(data: bytes, origin: str) -> np.ndarray:
    """An image file's bytes as (height, width, 3) uint8 RGB, as stored."""
    return read_training_image(_NamedBytes(data, origin))  # type: ignore[arg-type]


def decode_photo(data: bytes, origin: str) -> np.ndarray:
    """An image file's bytes as `read_input_image` sees them, (height, width, 3) uint8 RGB."""
    try:
        # Pillow's own limit, as for images with labels: a job has no argument to raise another.
        return read_input_image(data, max_pixels=2 * MAX_PIXELS)
    except ValueError as error:
        raise ValueError(origin + str(error).removeprefix(source_name(data))) from error


def decode_label(data: bytes, origin: str) -> np.ndarray:
    """A label PNG's bytes as (height, width) uint8, its numbers."""
    return read_mask(_NamedBytes(data, origin))  # type: ignore[arg-type]


def load(item: Item, values: ImagePairs | None) -> tuple[np.ndarray, np.ndarray | None] | Failure:
    """The image and its mask of classes, or why there is none.

    With labels the image is as stored, as in training: a label fits the stored pixels. Without,
    it is a photograph as the eye is meant to see it.

    Args:
        item: what to read.
        values: knows which label values there may be; None for no labels.
    """
    try:
        image_data, label_data = item.data or (read_bytes(item.origin), None)
        if not image_data:
            raise ValueError(f"{item.origin}: the file is empty; replace it.")
        if values is None:
            return decode_photo(image_data, item.origin), None
        image = decode_image(image_data, item.origin)
        label_origin = item.label or item.origin
        if label_data is None:
            if item.label in (None, item.origin):
                raise ValueError(
                    f"{item.origin}: the rules for labels don't lead to another path; give such "
                    "that fit all images, or other patterns."
                )
            label_data = read_bytes(label_origin)
        label = decode_label(label_data, label_origin)
        if label.shape != image.shape[:2]:
            raise ValueError(
                f"{label_origin}: label is {label.shape[1]}x{label.shape[0]} but its image is "
                f"{image.shape[1]}x{image.shape[0]}; labels must have their image's size."
            )
        return image, values.to_classes(label, label_origin)
    except ValueError as error:
        return Failure(str(error))


__all__ = [
    "Failed",
    "ImageFiles",
    "ImageList",
    "Item",
    "Source",
    "TFRecords",
    "label_path",
    "load",
    "result_name",
    "unsafe",
]
