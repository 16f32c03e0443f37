"""Label files whose values aren't class indices: 0 and 255, or numbers of instances."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.label_files import opened, read_mask

IGNORE = "ignore"
_LARGEST = 65535  # of a 16-bit file
_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


class LabelMap:
    """Maps the values in label files to classes; other values stay as they are.

    Args:
        entries: maps a value, or a range such as "1-254" or (1, 254), to a class index or
            "ignore". Values go up to 65535, for 16-bit files of instances.
        ignore_class: what "ignore" becomes.

    Raises:
        ValueError: if an entry is invalid, or two entries share a value.

    Example:
        `LabelMap({255: 1})` for masks of 0 and 255; `LabelMap({"1-65535": 1})` for instances.
    """

    def __init__(self, entries: Mapping[Any, Any], *, ignore_class: int):
        if not isinstance(entries, Mapping) or not entries:
            raise ValueError(
                f"label_map is {entries!r}; it must map values to classes, e.g. {{255: 1}}."
            )
        self._table = np.arange(_LARGEST + 1)
        mapped = np.zeros(len(self._table), bool)
        for key, target in entries.items():
            first, last = _values(key)
            index = _class_index(key, target, ignore_class)
            part = slice(first, last + 1)
            if mapped[part].any():
                twice = first + int(np.argmax(mapped[part]))
                raise ValueError(f"label_map has two entries for the value {twice}; remove one.")
            mapped[part] = True
            self._table[part] = index
        self._is_wide = bool(mapped[256:].any())

    def read(self, path: Path) -> np.ndarray:
        """Reads a label file as (height, width) uint8 class indices or `ignore_class`."""
        values = _read_numbers(path) if self._is_wide else read_mask(path)
        classes = self._table[values]
        if classes.max(initial=0) > 255:
            value = values[classes > 255][0]
            raise ValueError(
                f"{path}: label value {value} isn't in label_map and doesn't fit 8 bits; add it, "
                f"e.g. '{value}-{_LARGEST}=1'."
            )
        return classes.astype(np.uint8)


def parse_label_map(words: Iterable[str]) -> dict[str, str]:
    """Parses words such as "255=1" and "128=ignore" into a label map."""
    entries: dict[str, str] = {}
    for word in words:
        key, equals, target = word.partition("=")
        if not equals or not key.strip() or not target.strip():
            raise ValueError(
                f"--label-map {word}: must be VALUE=CLASS, for instance 255=1, 1-254=1 or "
                "128=ignore."
            )
        if key.strip() in entries:
            raise ValueError(f"--label-map {word}: {key.strip()} occurs twice; remove one.")
        entries[key.strip()] = target.strip()
    return entries


def _values(key):
    """Returns the first and last value of an entry."""
    if isinstance(key, tuple) and len(key) == 2:
        key = f"{key[0]}-{key[1]}"
    match = _RANGE.fullmatch(str(key))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    if isinstance(key, bool) or not first <= last <= _LARGEST:
        raise ValueError(
            f"label_map: {key!r} isn't a value from 0 to {_LARGEST} or a range such as '1-254'."
        )
    return first, last


def _class_index(key, target, ignore_class):
    if target == IGNORE:
        return ignore_class
    text = str(target)
    if isinstance(target, bool) or not text.isdecimal() or int(text) > 255:
        raise ValueError(
            f"label_map: the class of {key} is {target!r}; it must be from 0 to 255, or {IGNORE!r}."
        )
    return int(text)


def _read_numbers(path):
    """Reads a label file of 16 bits as (height, width) integers."""
    with opened(path) as image:
        mode, kind, values = image.mode, image.format, np.asarray(image)
    if kind != "PNG" and kind != "TIFF":
        return read_mask(path)
    if mode not in ("I", "I;16", "I;16B"):
        return read_mask(path)
    values = values.astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > _LARGEST:
        raise ValueError(
            f"{path}: label values go from {values.min()} to {values.max()}; they must be from 0 "
            f"to {_LARGEST}."
        )
    return values
