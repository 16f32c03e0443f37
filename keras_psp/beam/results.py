"""Results of a job before the final files: one file per image, or per group of images."""

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

SHARDS = "classes-*-of-*.tfrecord"
# A kill loses the results since the last part file; a new one is written after this many
# images or seconds.
_PART_IMAGES, _PART_SECONDS = 64, 10.0
_TEXT = "keras_psp"


Cells = tuple[int, ...]  # (label, class, pixels) triples, flat; empty without labels


class Record(NamedTuple):
    """A predicted image; name and origin are those of its `Item`."""

    name: str
    origin: str
    cells: Cells
    file: str  # path of the result


class BadName(ValueError):
    """Raised if an image's name can't be the name of a result."""


class PNGs:
    """Writes a PNG of class indices per image, at classes/NAME.png.

    The confusion counts are a text chunk of the same file, so that both exist or neither.
    """

    pattern = "classes/**.png"

    def __init__(self, output: str):
        self.output = output

    def add(self, name: str, origin: str, classes: np.ndarray, cells: Cells) -> list[Record]:
        """Writes a result and returns its record; raises BadName if the name is too long."""
        file = f"{self.output}/classes/{name}.png"
        info = PngInfo()
        info.add_text(_TEXT, json.dumps({"origin": origin, "confusion": cells}), zip=True)
        try:
            write_bytes(file, _png(classes, info))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise BadName(
                f"{origin}: the name of its result, {name}.png, is too long for the file system; "
                "shorten it."
            ) from error
        return [Record(name, origin, cells, file)]

    def flush(self) -> list[Record]:
        """Returns no records, since every result is written at once."""
        return []

    def read(self, file: str) -> Iterator[Record]:
        """Yields the record of a file that an earlier run wrote."""
        content = read_bytes(file)
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.verify()  # all checksums
            text = image.info[_TEXT]
            found = json.loads(text)
            origin, cells = found["origin"], tuple(found["confusion"])
        except Exception as error:  # of Pillow
            reason = "no text of this job" if isinstance(error, KeyError) else error
            raise ValueError(
                f"{file} is damaged or wasn't written by this job ({reason}); remove it."
            ) from error
        name = file.removeprefix(f"{self.output}/classes/").removesuffix(".png")
        yield Record(name, origin, cells, file)


class TFRecordParts:
    """Writes files of several results each to parts/, from which the shards are made."""

    pattern = "parts/*.tfrecord"

    def __init__(self, output: str):
        self.output = output
        self._waiting: list[tuple[str, str, Cells, bytes]] = []
        self._since = 0.0

    def add(self, name: str, origin: str, classes: np.ndarray, cells: Cells) -> list[Record]:
        """Keeps a result until the next file is written, and returns that file's records."""
        if not self._waiting:
            self._since = time.monotonic()
        features: records.Features = {
            records.NAME: name.encode(),
            records.ORIGIN: origin.encode(),
            records.HEIGHT: [classes.shape[0]],
            records.WIDTH: [classes.shape[1]],
            records.LABEL: _png(classes),
            records.LABEL_FORMAT: b"png",
            records.CONFUSION: list(cells),
        }
        self._waiting.append((name, origin, cells, records.serialize(features)))
        full = len(self._waiting) >= _PART_IMAGES
        return self.flush() if full or time.monotonic() - self._since > _PART_SECONDS else []

    def flush(self) -> list[Record]:
        """Writes the results that wait for a file, and returns their records."""
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, []
        digest = hashlib.sha256("\n".join(origin for _, origin, _, _ in waiting).encode())
        file = f"{self.output}/parts/{digest.hexdigest()[:24]}.tfrecord"
        write_bytes(file, records.to_bytes(data for _, _, _, data in waiting))
        return [Record(name, origin, cells, file) for name, origin, cells, _ in waiting]

    def read(self, file: str) -> Iterator[Record]:
        """Yields the records of a file that an earlier run wrote."""
        for data in records.read_records(file):
            yield _record(records.parse(data), file)


def shard(parts: Sequence[tuple[str, Sequence[str]]]) -> Iterator[bytes]:
    """Yields the results with the given names from (file, names) pairs, each name once."""
    for file, names in sorted(parts):
        wanted = set(names)
        for data in records.read_records(file):
            name = _record(records.parse(data), file).name
            if name in wanted:
                wanted.remove(name)
                yield data


def is_result(path: str, output: str) -> bool:
    """Returns whether a job writes to this path, which a source's pattern may match as well."""
    inner = path.removeprefix(f"{output}/")
    patterns = ("classes/*.png", TFRecordParts.pattern, SHARDS)
    return inner != path and any(fnmatch.fnmatchcase(inner, pattern) for pattern in patterns)


FORMATS: dict[str, type[PNGs] | type[TFRecordParts]] = {"png": PNGs, "tfrecord": TFRecordParts}
"""Classes that write the results in each format."""


def _record(features, file):
    cells = tuple(features.get(records.CONFUSION, ()))
    return Record(features[records.NAME].decode(), features[records.ORIGIN].decode(), cells, file)


def _png(classes, info=None):
    file = io.BytesIO()
    Image.fromarray(classes).save(file, "png", pnginfo=info)
    return file.getvalue()
