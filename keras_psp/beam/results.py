"""The results of a job: one whole file for each image, or for a few, before the final ones."""

import errno
import fnmatch
import hashlib
import io
import json
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from keras_psp.beam import records
from keras_psp.beam.storage import read_bytes, write_bytes

FORMATS = ("png", "tfrecord")
SHARDS = "classes-*-of-*.tfrecord"
# A kill costs the results since the last file; a file has this many, or those of so long.
_PART_IMAGES, _PART_SECONDS = 64, 10.0
_TEXT = "keras_psp"


class Record(NamedTuple):
    """What is known of an image that was predicted.

    Attributes:
        name, origin: as of its `Item`.
        cells: (label, class, pixels) triples in one tuple; empty without labels.
        file: where the result lies.
    """

    name: str
    origin: str
    cells: tuple[int, ...]
    file: str


def confusion_cells(
    label: np.ndarray, classes: np.ndarray, num_classes: int, ignore_class: int
) -> tuple[int, ...]:
    """The entries of one image's confusion matrix that aren't 0, as (label, class, pixels)."""
    counted = label != ignore_class
    cells = label[counted].astype(np.int64) * num_classes + classes[counted]
    counts = np.bincount(cells, minlength=1)
    (found,) = np.nonzero(counts)
    triples = np.stack([found // num_classes, found % num_classes, counts[found]], axis=1)
    return tuple(triples.ravel().tolist())


class BadName(ValueError):
    """An image's name that no result can have."""


class PNGs:
    """A PNG of class indices for each image, at classes/NAME.png.

    The confusion counts stand in a text of the same file, so that both are there or neither.
    """

    pattern = "classes/**.png"

    def __init__(self, output: str):
        self.output = output

    def add(self, name: str, origin: str, classes: np.ndarray, cells: tuple[int, ...]):
        """Write a result; the Records of those that are written.

        Raises:
            BadName: where it is too long.
        """
        file = f"{self.output}/classes/{name}.png"
        info = PngInfo()
        info.add_text(_TEXT, json.dumps({"origin": origin, "confusion": cells}), zip=True)
        try:
            write_bytes(file, _png(classes, info))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise BadName(
                f"{origin}: its result's name, {name}.png, is too long for the file system; "
                "shorten it."
            ) from error
        return [Record(name, origin, cells, file)]

    def flush(self) -> list[Record]:
        """Write what was kept back; the Records of it."""
        return []

    def read(self, file: str) -> Iterator[Record]:
        """The Records of a file that an earlier start wrote."""
        with Image.open(io.BytesIO(read_bytes(file))) as picture:
            text = picture.info.get(_TEXT)
        if text is None:
            raise ValueError(f"{file} wasn't written by this job; remove it.")
        found = json.loads(text)
        name = file.removeprefix(f"{self.output}/classes/").removesuffix(".png")
        yield Record(name, found["origin"], tuple(found["confusion"]), file)


class TFRecordParts:
    """Files of the results of some images each, in parts/, of which shards are made at the end."""

    pattern = "parts/*.tfrecord"

    def __init__(self, output: str):
        self.output = output
        self._kept: list[tuple[str, str, tuple[int, ...], bytes]] = []
        self._since = 0.0

    def add(self, name: str, origin: str, classes: np.ndarray, cells: tuple[int, ...]):
        """Keep a result, and write a file now and then; the Records of what it holds."""
        if not self._kept:
            self._since = time.monotonic()
        png = _png(classes)
        features: records.Features = {
            records.NAME: name.encode(),
            records.ORIGIN: origin.encode(),
            records.HEIGHT: [classes.shape[0]],
            records.WIDTH: [classes.shape[1]],
            records.LABEL: png,
            records.LABEL_FORMAT: b"png",
            records.CONFUSION: list(cells),
        }
        self._kept.append((name, origin, cells, records.serialized(features)))
        full = len(self._kept) >= _PART_IMAGES
        return self.flush() if full or time.monotonic() - self._since > _PART_SECONDS else []

    def flush(self) -> list[Record]:
        """Write what was kept back; the Records of it."""
        if not self._kept:
            return []
        kept, self._kept = self._kept, []
        digest = hashlib.sha256("\n".join(origin for _, origin, _, _ in kept).encode())
        file = f"{self.output}/parts/{digest.hexdigest()[:24]}.tfrecord"
        write_bytes(file, records.to_bytes(data for _, _, _, data in kept))
        return [Record(name, origin, cells, file) for name, origin, cells, _ in kept]

    def read(self, file: str) -> Iterator[Record]:
        """The Records of a file that an earlier start wrote."""
        for data in records.read_records(file):
            yield _record(records.parse(data), file)


def shard(parts: Sequence[tuple[str, Sequence[str]]]) -> Iterator[bytes]:
    """Of (file, names) the results with these names, each once."""
    for file, names in sorted(parts):
        wanted = set(names)
        for data in records.read_records(file):
            name = _record(records.parse(data), file).name
            if name in wanted:
                wanted.remove(name)
                yield data


def is_result(path: str, output: str) -> bool:
    """Whether the path is one that a job writes its results to; a source's pattern may fit it."""
    inner = path.removeprefix(f"{output}/")
    return inner != path and any(
        fnmatch.fnmatchcase(inner, pattern)
        for pattern in ("classes/*.png", TFRecordParts.pattern, SHARDS)
    )


def store(kind: str, output: str) -> PNGs | TFRecordParts:
    """The store of one of `FORMATS`."""
    return PNGs(output) if kind == "png" else TFRecordParts(output)


def _record(features, file):
    cells = tuple(features.get(records.CONFUSION, ()))
    return Record(features[records.NAME].decode(), features[records.ORIGIN].decode(), cells, file)


def _png(classes, info=None):
    file = io.BytesIO()
    Image.fromarray(classes).save(file, "png", pnginfo=info)
    return file.getvalue()
