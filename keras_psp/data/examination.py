"""What an example's files contain, with a cache so that no content is examined twice."""

import contextlib
import dataclasses
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.images import read_bytes
from keras_psp.data.label_files import check_size, read_mask
from keras_psp.files import cache_folder
from keras_psp.progress import Bar, ahead

# Incremented whenever images or labels are read differently, or other fields are stored.
_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Examined:
    """What was found in one example.

    Attributes:
        image, label: the files; `label` is "" where the labels aren't published.
        digest, label_digest: SHA-256 of the image's and of the label's content.
        size: (height, width) in pixels.
        deviations: keys of `keras_psp.data.images.DEVIATIONS`.
        pixels: number of pixels of each value in the label.
        solid: values that fill a square of 2x2 pixels somewhere, as drawn classes do.
        fault: why the example can't be used, or "".
        dtype: NumPy name of the image's dtype.
    """

    image: str
    label: str
    digest: str = ""
    label_digest: str = ""
    size: tuple[int, int] = (0, 0)
    deviations: tuple[str, ...] = ()
    pixels: dict[int, int] = dataclasses.field(default_factory=dict)
    solid: tuple[int, ...] = ()
    fault: str = ""
    dtype: str = "uint8"


def examine_pairs(
    source: Any, pairs: Sequence[tuple[Path, Path | None]], *, progress: bool
) -> Iterator[Examined]:
    """Yields what each pair of files contains, in order, read in threads or from the cache."""
    with Cache() as cache, Bar("Checking", len(pairs), shown=progress) as bar:
        results = ahead(lambda pair: _examined(source, pair, cache), pairs)
        for number, examined in enumerate(results, 1):
            yield examined
            bar.update(number)


def _examined(source, pair, cache):
    image, label = (None if path is None else str(path) for path in pair)
    found = Examined(image, label or "")
    try:
        content = read_bytes(image)
        found = dataclasses.replace(found, digest=_digest(content))
        plain = source.read_label is read_mask
        label_content: Any = b""
        if label is not None:
            # Other labels may be part of a file, so their values tell them apart.
            label_content = read_bytes(label) if plain else source.read_label(pair[1])
        found = dataclasses.replace(found, label_digest=_digest(label_content))
        stored = cache.get(found, source.channels)
        if stored is None:
            stored = _contents(source, content, image, label_content, label)
            cache.put(found, stored, source.channels)
        found = dataclasses.replace(found, **stored)
        source.check_dtype(found.dtype, image)
        if label is not None and source.classes_are_named:
            source.to_classes(np.array([list(found.pixels)], np.uint8), label)
    except (ValueError, OSError) as error:
        return dataclasses.replace(found, fault=str(error))
    return found


def _contents(source, content, image, label_content, label):
    """Returns the fields of `Examined` that depend on the files' contents alone."""
    deviations: list[str] = []
    if source.channels == 3:
        pixels = source.read_image(content, name=image, deviations=deviations)
        contents: dict[str, Any] = {"size": pixels.shape[:2], "deviations": tuple(deviations)}
    else:
        pixels = source.read_image(content, name=image)
        contents = {"size": pixels.shape[:2], "dtype": pixels.dtype.name}
    if label is None:
        return contents
    mask = label_content
    if isinstance(mask, bytes):
        mask = read_mask(mask, name=label)
    check_size(mask, pixels, label)
    return contents | count_values(mask)


def count_values(mask: np.ndarray) -> dict[str, Any]:
    """Returns `pixels` and `solid` of `Examined` for a mask, (height, width) uint8."""
    counts = np.bincount(mask.ravel(), minlength=256)
    corner = mask[:-1, :-1]
    same = (corner == mask[1:, :-1]) & (corner == mask[:-1, 1:]) & (corner == mask[1:, 1:])
    solid = np.flatnonzero(np.bincount(corner[same], minlength=256))
    values = np.flatnonzero(counts)
    return {
        "pixels": dict(zip(values.tolist(), counts[values].tolist(), strict=True)),
        "solid": tuple(solid.tolist()),
    }


def _digest(content):
    if not isinstance(content, bytes):
        content = np.ascontiguousarray(content)
    return hashlib.sha256(content).hexdigest()[:32]


class Cache:
    """Results of examinations by content, in `examined.sqlite` in the package's cache folder.

    Nothing is stored if the cache can't be written, for instance in a read-only home folder.
    """

    _BATCH = 200  # results written at a time

    def __init__(self, path: str | os.PathLike | None = None):
        self._path = Path(path or cache_folder() / "examined.sqlite")
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._waiting: dict[str, str] = {}

    def __enter__(self) -> "Cache":
        with contextlib.suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS examined (key TEXT PRIMARY KEY, contents TEXT)"
            )
            self._connection = connection
        return self

    def __exit__(self, *error: object) -> None:
        if self._connection is not None:
            self._write()
            self._connection.close()

    def get(self, examined: Examined, channels: int = 3) -> dict[str, Any] | None:
        """Returns the stored fields of an example with the same contents, or None."""
        with self._lock, contextlib.suppress(sqlite3.Error, ValueError):
            if self._connection is not None:
                query = "SELECT contents FROM examined WHERE key = ?"
                row = self._connection.execute(query, (_key(examined, channels),)).fetchone()
                return None if row is None else _fields(json.loads(row[0]))
        return None

    def put(self, examined: Examined, contents: dict[str, Any], channels: int = 3) -> None:
        """Stores the fields of an example, no later than at the end of the block."""
        with self._lock:
            self._waiting[_key(examined, channels)] = json.dumps(contents)
            if len(self._waiting) >= self._BATCH:
                self._write()

    def _write(self):
        waiting, self._waiting = self._waiting, {}
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None:
                query = "INSERT OR REPLACE INTO examined VALUES (?, ?)"
                self._connection.executemany(query, waiting.items())
                self._connection.commit()


def _key(examined, channels):
    bands = "" if channels == 3 else f"/{channels}"
    return f"{_VERSION}/{examined.digest}/{examined.label_digest}{bands}"


def _fields(contents):
    """Restores the types that JSON doesn't have."""
    fields = {
        name: value if name == "dtype" else tuple(value)
        for name, value in contents.items()
        if name != "pixels"
    }
    pixels = {int(value): count for value, count in contents.get("pixels", {}).items()}
    return {**fields, "pixels": pixels}
