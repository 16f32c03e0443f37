"""Readers of masks and other label files, and of text files next to them."""

import contextlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp.data.images import error_reason, formats, loaded, raw_mode

_LOSSY = ("AVIF", "HEIF", "JPEG", "JPEG2000", "MPO", "WEBP")


def read_mask(source: str | os.PathLike | bytes, *, name: str | None = None) -> np.ndarray:
    """Reads a mask as (height, width) uint8: its numbers, not its colors.

    Args:
        source: a path or the bytes of a file, PNG or another lossless format.
        name: what errors call the file; by default its path.

    Raises:
        ValueError: if the file is broken or lossily compressed, contains colors or numbers above
            255, or has an EXIF orientation.
    """
    name = name or str(source)
    with opened(io.BytesIO(source) if isinstance(source, bytes) else source, name) as image:
        mode, kind, stored = image.mode, image.format, raw_mode(image)
        # Pillow stretches 2- and 4-bit gray to 0..255: times 85 and times 17.
        stretch = {"L;2": 85, "L;4": 17}.get(stored, 1) if kind == "PNG" else 1
        orientation, _ = loaded(image)
        values = np.asarray(image)
    if kind in _LOSSY:
        raise ValueError(
            f"{name}: label is a {kind} file, whose compression changes class numbers; export "
            "the labels as PNG from the program that drew them."
        )
    if orientation != 1:
        raise ValueError(
            f"{name}: label has an EXIF orientation; save it as displayed, without the tag."
        )
    if mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{name}: label has mode {mode}, colors instead of one class number per pixel; "
            "save it as an 8-bit grayscale or palette PNG of class indices."
        )
    if values.dtype.itemsize > 1:
        too_large = values[(values > 255) | (values < 0)]
        if too_large.size:
            raise ValueError(
                f"{name}: label value {too_large[0]} doesn't fit 8 bits; "
                "class indices must be from 0 to 255."
            )
    return values.astype(np.uint8) // np.uint8(stretch)


def check_size(mask: np.ndarray, image: np.ndarray, name: str | os.PathLike) -> None:
    """Raises a ValueError if a mask, read from `name`, differs in size from its image."""
    if mask.shape == image.shape[:2]:
        return
    (height, width), (rows, columns) = mask.shape, image.shape[:2]
    turned = " if turned upright by its EXIF orientation" if (columns, rows) == mask.shape else ""
    raise ValueError(
        f"{name}: mask is {width}x{height} but its image is {columns}x{rows}{turned}; masks must "
        "have their image's size."
    )


def read_mat(path: str | os.PathLike, *fields: str) -> np.ndarray:
    """Reads a matrix of labels in a MATLAB file (version 4 to 7.2) as (height, width) uint8.

    The fields are the variable, then the nested struct fields that lead to the matrix.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError(
            f'{path}: reading .mat files needs SciPy; pip install "keras-psp[mat]".'
        ) from None
    try:
        values = loadmat(path, variable_names=fields[:1])[fields[0]]
        for field in fields[1:]:
            values = values[field][0, 0]
    except Exception as error:  # SciPy's own types, and KeyError for a missing variable
        raise _unreadable(path, error) from error
    if values.ndim != 2 or np.any((values < 0) | (values > 255) | (values != np.floor(values))):
        raise ValueError(
            f"{path}: {'.'.join(fields)} isn't a matrix of whole numbers from 0 to 255; "
            "download the file again."
        )
    return values.astype(np.uint8)


def read_text(path: Path) -> str:
    """Reads a UTF-8 text file, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: isn't UTF-8 text; save it as UTF-8.") from None


@contextlib.contextmanager
def opened(source: str | os.PathLike | io.BytesIO, name: str = "") -> Iterator[Image.Image]:
    """Opens an image; any error in the block becomes a ValueError that names the file."""
    try:
        with Image.open(source, formats=formats()) as image:
            yield image
    except Exception as error:  # Pillow raises a dozen types for broken files
        raise _unreadable(name or source, error) from error


def by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Maps names without suffix to the folder's files that have one of the suffixes.

    The case of suffixes doesn't matter.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; it must hold {', '.join(suffixes)} files.")
    paths: dict[str, Path] = {}
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(name)
        # macOS writes a file with a leading dot next to every file on foreign disks.
        if suffix.lower() not in suffixes or name.startswith("."):
            continue
        if stem in paths:
            raise ValueError(
                f"{folder / name}: {paths[stem].name} has the same name but for the suffix; "
                "names must be unique within a folder."
            )
        paths[stem] = folder / name
    return paths


def ranges(values: np.ndarray) -> str:
    """Formats sorted integers as `0 to 10, 12, 14 to 20`."""
    parts = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _unreadable(path, error):
    return ValueError(
        f"{path}: can't be read ({error_reason(path, error)}); replace the file, or remove it "
        "and the image or label that belongs to it."
    )


def listed_names(given: Sequence[str] | None, path: Path) -> tuple[str, list[str]] | None:
    """Returns (origin, names), given or in a file with one name per line; None without either."""
    if given is not None:
        return "class_names", list(given)
    if not path.is_file():
        return None
    lines = read_text(path).splitlines()
    return str(path), [line.strip() for line in lines if line.strip()]


def check_names(names: Sequence[str], origin: str) -> None:
    """Raises ValueError unless there are 1 to 255 different class names."""
    if not 1 <= len(names) <= 255:
        raise ValueError(f"{origin}: {len(names)} class names; between 1 and 255 are needed.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{origin}: class {twice[0]!r} occurs twice; names must differ.")
