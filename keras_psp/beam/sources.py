"""Sources of a job's images and labels."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems

from keras_psp.beam import records
from keras_psp.beam.results import is_result
from keras_psp.beam.storage import absolute, matches, read_bytes
from keras_psp.data.images import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from keras_psp.data.label_files import check_size, read_mask
from keras_psp.data.lists import parse_list
from keras_psp.data.pairs import ImagePairs
from keras_psp.files import printable


class Item(NamedTuple):
    """An image that hasn't been read yet, or a record of a TFRecord file."""

    name: str  # of the result: the path relative to the root, without suffix
    origin: str  # path of the image, or of its TFRecord file and "#number"
    label: str | None = None  # path of the label
    data: tuple[bytes, bytes | None] | None = None  # image and label of a record


class Failed(NamedTuple):
    """An image without a result, for failed.jsonl."""

    name: str
    origin: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files that match patterns, except the job's own results.

    Args:
        patterns: one or more. `*` matches within a folder, `**` across folders. Paths are
            local or on any file system that Beam supports, e.g. gs:// or s3://.
        labels: (old, new) replacements that turn the path of an image into that of its label;
            each applies to the last `old` in the path. Empty for images without labels.
        root: the names of the results are relative to this folder; by default the deepest one
            that contains every pattern.

    Example:
        ImageFiles("ade/images/val/**.jpg", labels=[("images/", "annotations/"), (".jpg", ".png")])
    """

    patterns: str | Sequence[str]
    labels: Sequence[tuple[str, str]] = ()
    root: str | os.PathLike | None = None

    def resolved(self) -> "ImageFiles":
        """Returns the same source with absolute paths."""
        patterns = _absolute(self.patterns, "photos/**.jpg")
        root = _folder_of(patterns) if self.root is None else absolute(self.root)
        labels = tuple((old, new) for old, new in self.labels)
        if not all(old for old, _ in labels):
            raise ValueError(
                "labels replaces an empty string; give (old, new), e.g. ('images/', 'labels/')."
            )
        return ImageFiles(patterns, labels, root)

    @property
    def labeled(self) -> bool:
        """Whether there are labels."""
        return bool(self.labels)

    def count(self, output: str) -> int:
        """Returns the current number of images; slow for many of them."""
        return len(set(_matching(self.patterns, output)))

    def items(self, pipeline: beam.Pipeline, output: str) -> beam.PCollection:
        """Adds steps that give (name, Item) for each image; a name may occur twice."""
        return (
            pipeline
            | "ImagePatterns" >> beam.Create(list(self.patterns))
            | "ImageFiles" >> beam.FlatMap(_images, output)
            | "NameImages" >> beam.Map(self.item)
        )

    def item(self, path: str) -> tuple[str, Item]:
        """Returns the name and the item of an image."""
        name = result_name(path, self.root)
        return name, Item(name, path, label_path(path, self.labels) if self.labels else None)


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Images that a text file lists, one `image label` or `image` per line.

    The format is that of `keras_psp.data.FileList`.

    Args:
        path: the text file.
        root: folder, local or not, that the listed paths and the names of the results are
            relative to.

    Example:
        ImageList("ade/list/val.txt", root="ade")
    """

    path: str | os.PathLike
    root: str | os.PathLike

    def resolved(self) -> "ImageList":
        """Returns the same source with absolute paths."""
        return ImageList(absolute(self.path), absolute(self.root))

    def pairs(self) -> list[tuple[str, str | None]]:
        """Reads the paths of the images and labels."""
        try:
            text = read_bytes(os.fspath(self.path)).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{self.path}: isn't UTF-8 text; save it as UTF-8.") from None
        root = str(self.root).rstrip("/")
        return [
            (f"{root}/{image}", None if label is None else f"{root}/{label}")
            for _, image, label in parse_list(text, self.path)
        ]

    @property
    def labeled(self) -> bool:
        """Whether there are labels."""
        return self.pairs()[0][1] is not None

    def count(self, output: str) -> int:
        """Returns the number of images."""
        return len(set(self.pairs()))

    def items(self, pipeline: beam.Pipeline, output: str) -> beam.PCollection:
        """Adds steps that give (name, Item) for each image; a name may occur twice."""
        items = [
            Item(result_name(image, str(self.root)), image, label) for image, label in self.pairs()
        ]
        return pipeline | "ListImages" >> beam.Create([(item.name, item) for item in items])


@dataclasses.dataclass(frozen=True)
class TFRecords:
    """Images, optionally with labels, in TFRecord files of tf.train.Example.

    `keras_psp.beam.records` lists the features. Results are named after the records, whose names
    must be unique.

    Args:
        patterns: one or more, as in `ImageFiles`.
        labeled: whether to read labels and evaluate.

    Example:
        TFRecords("ade/val-*.tfrecord", labeled=True)
    """

    patterns: str | Sequence[str]
    labeled: bool = False

    def resolved(self) -> "TFRecords":
        """Returns the same source with absolute paths."""
        return TFRecords(_absolute(self.patterns, "val-*.tfrecord"), self.labeled)

    def count(self, output: str) -> None:
        """Checks that the files exist; returns None, since the number isn't known in advance."""
        _matching(self.patterns, output)

    def items(self, pipeline: beam.Pipeline, output: str) -> beam.PCollection:
        """Adds steps that give an Item or a Failed for each record."""
        return self._files(pipeline, output, "Image") | "ReadImages" >> beam.FlatMap(
            record_items, self.labeled
        )

    def names(self, pipeline: beam.Pipeline, output: str) -> beam.PCollection:
        """Adds steps that give (name, origin) for each readable record."""
        return self._files(pipeline, output, "Name") | "ReadNames" >> beam.FlatMap(
            _record_names, self.labeled
        )

    def _files(self, pipeline, output, label):
        return (
            pipeline
            | f"{label}Patterns" >> beam.Create(list(self.patterns))
            | f"{label}Files" >> beam.FlatMap(_images, output)
            | f"{label}FilesShuffled" >> beam.Reshuffle()
        )


Source = ImageFiles | ImageList | TFRecords


def _absolute(patterns, example):
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not patterns:
        raise ValueError(f"patterns is empty; give one or more, e.g. {example!r}.")
    return tuple(absolute(pattern) for pattern in patterns)


def _matching(patterns, output):
    """Returns the matching files; raises ValueError unless each pattern matches valid names."""
    paths = []
    for pattern in patterns:
        if FileSystems.get_scheme(pattern) is None and os.path.isdir(pattern):
            raise ValueError(f"{pattern} is a folder; give a pattern of its files: {pattern}/**")
        found = _images(pattern, output)
        if not found:
            brackets = ", and [[] for a [ in a name" if "[" in pattern else ""
            raise ValueError(
                f"no image matches {pattern}; use `**` to match in subfolders, which `*` doesn't"
                f"{brackets}."
            )
        paths += found
    if odd := next((path for path in paths if printable(path) != path), None):
        raise ValueError(f"{printable(odd)}: its name isn't UTF-8, as Beam needs it; rename it.")
    return paths


def _images(pattern, output):
    """Returns the matching files except the results of earlier runs of this job.

    A shell may have replaced a pattern by the names of files, in which brackets mean nothing.
    """
    paths = [pattern] if FileSystems.exists(pattern) else matches(pattern)
    return [path for path in paths if not is_result(path, output)]


def _folder_of(patterns):
    """Returns the deepest folder that contains all patterns."""
    folders = [re.split(r"[*?\[]", pattern, maxsplit=1)[0].split("/")[:-1] for pattern in patterns]
    levels = zip(*folders, strict=False)
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, levels)
    return "/".join(names[0] for names in shared)


def result_name(path: str, root: str | os.PathLike | None) -> str:
    """Returns the path relative to the root, with "/" and without an image's suffix."""
    inner = path.removeprefix(str(root).rstrip("/") + "/") if root else path
    stem, suffix = os.path.splitext(inner)
    name = stem if suffix.lower() in IMAGE_SUFFIXES else inner
    return name.replace("\\", "/").lstrip("/")


def label_path(path: str, rules: Sequence[tuple[str, str]]) -> str | None:
    """Returns the path of an image's label, or None if a rule doesn't apply."""
    for old, new in rules:
        before, separator, after = path.rpartition(old)
        if not separator:
            return None
        path = before + new + after
    return path


def record_items(path: str, labeled: bool) -> Iterator[Item | Failed]:
    """Yields the items of a TFRecord file, and a Failed for each that can't be read."""
    number = 0
    try:
        for record in records.read_records(path):
            yield _record_item(f"{path}#{number}", record, labeled)
            number += 1
    except Exception as error:  # from the file system, or for a corrupt record
        yield Failed(f"{path}#{number}", path, str(error).split("\n")[0])


def _record_names(path, labeled):
    for item in record_items(path, labeled):
        if isinstance(item, Item):
            yield item.name, item.origin


def _record_item(origin, record, labeled):
    try:
        features = records.parse(record)
    except ValueError as error:
        return Failed(origin, origin, f"{origin}: {error}")
    for feature in (records.IMAGE, records.NAME, *[records.LABEL] * labeled):
        if not isinstance(features.get(feature), bytes):
            reason = f"{origin}: {feature} is missing; write the record again."
            return Failed(origin, origin, reason)
    name = result_name(features[records.NAME].decode("utf-8", "replace"), None)
    label = features[records.LABEL] if labeled else None
    return Item(name, origin, None, (features[records.IMAGE], label))


def unsafe(name: str) -> bool:
    """Returns whether a result of this name would be outside its folder, hidden, or invalid."""
    return "\0" in name or any(not part or part.startswith(".") for part in name.split("/"))


def load(item: Item, values: ImagePairs | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads an image and its mask of classes, which `values` makes from the label's values."""
    image_data, label_data = item.data or (read_bytes(item.origin), None)
    # Pillow's own limit, as in training; a job has no argument for another.
    image = read_image(image_data, name=item.origin, max_pixels=2 * MAX_PIXELS)
    if values is None:
        return image, None
    label_origin = item.label or item.origin
    if label_data is None:
        if item.label in (None, item.origin):
            raise ValueError(
                f"{item.origin}: the replacements for labels don't lead to another path; give "
                "replacements that fit all images, or other patterns."
            )
        label_data = read_bytes(label_origin)
    label = read_mask(label_data, name=label_origin)
    check_size(label, image, label_origin)
    return image, values.to_classes(label, label_origin)
