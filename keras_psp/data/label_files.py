"""Readers of training images, masks and text files on disk."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp.data.images import error_reason

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Suffixes of training images."""


def read_training_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as it is stored, as (height, width, 3) uint8 RGB.

    EXIF rotation and transparency are ignored, because a mask fits the stored pixels.
    """
    with opened(path) as image:
        # Pillow silently keeps the high byte of 16-bit RGB.
        if not (image.mode.startswith(("I", "F")) or _raw_mode(image).endswith("16B")):
            return np.asarray(image.convert("RGB"))
        mode = image.mode
    raise ValueError(
        f"{path}: image has mode {mode} (more than 8 bits per channel); save it with 8 bits."
    )


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Reads a PNG mask as (height, width) uint8: its numbers, not its colors."""
    with opened(path) as image:
        mode = image.mode
        # Pillow stretches 2- and 4-bit gray to 0..255: times 85 and times 17.
        stretch = {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 1)
        values = np.asarray(image)
    if mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{path}: label has mode {mode}, colors instead of one class number per pixel; "
            "save it as an 8-bit grayscale or palette PNG of class indices."
        )
    if values.dtype.itemsize > 1:
        too_large = values[(values > 255) | (values < 0)]
        if too_large.size:
            raise ValueError(
                f"{path}: label value {too_large[0]} doesn't fit 8 bits; "
                "class indices must be from 0 to 255."
            )
    return values.astype(np.uint8) // np.uint8(stretch)


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
def opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """Opens an image; any error in the block becomes a ValueError that names the file."""
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow raises a dozen types for broken files
        raise _unreadable(path, error) from error


def stored_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns (height, width) from an image file's header."""
    with opened(path) as image:
        return image.height, image.width


def by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Maps names without suffix to the folder's files that have one of the suffixes.

    Upper and lower case of suffixes count as equal.
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


def _unreadable(path, error):
    return ValueError(
        f"{path}: can't be read ({error_reason(path, error)}); replace the file, or remove it "
        "and the image or label that belongs to it."
    )


def _raw_mode(image):
    """Returns how a PNG stores its pixels, in Pillow's terms, or an empty string."""
    if image.format != "PNG" or not image.tile:
        return ""
    args = image.tile[0][3]
    return args if isinstance(args, str) else args[0]
