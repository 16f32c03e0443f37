"""TODO."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from keras_psp.data.images import error_reason

if TYPE_CHECKING:
    pass


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def read_training_image(path: str | os.PathLike) -> np.ndarray:
    """An image file as (height, width, 3) uint8 RGB, as stored (EXIF is ignored)."""
    try:
        with Image.open(path) as image:
            # Pillow keeps the high byte of 16-bit RGB, and says "RGB".
            if image.mode.startswith(("I", "F")) or _raw_mode(image).endswith("16B"):
                raise ValueError(
                    f"{path}: image has mode {image.mode} (more than 8 bits a "
                    "channel); save it with 8 bits."
                )
            return np.asarray(image.convert("RGB"))
    except ValueError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise unreadable(path, error) from error
    except Exception as error:  # Pillow raises a dozen types on broken files
        raise unreadable(path, error) from error


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """A label PNG as (height, width) uint8: its numbers, never its colours."""
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            # Pillow stretches 2- and 4-bit grey to 0..255: times 85 and times 17.
            stretch = {"L;2": 85, "L;4": 17}.get(_raw_mode(picture), 1)
            values = np.asarray(picture)
    except Exception as error:  # Pillow raises a dozen types on broken files
        raise unreadable(path, error) from error
    if mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{path}: label has mode {mode}, colours instead of one class number per "
            "pixel; save it as an 8-bit greyscale or palette PNG of class indices."
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
    """A matrix of labels in a MATLAB file as (height, width) uint8.

    Args:
        path: a .mat file of version 4 to 7.2, which needs the extra `mat`.
        fields: the variable, then the fields of the structs it lies in.
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
    except Exception as error:  # SciPy raises its own, and KeyError for what isn't there
        raise unreadable(path, error) from error
    if values.ndim != 2 or np.any((values < 0) | (values > 255) | (values != np.floor(values))):
        raise ValueError(
            f"{path}: {'.'.join(fields)} isn't a matrix of whole numbers from 0 to 255; "
            "fetch the file again."
        )
    return values.astype(np.uint8)


def by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The folder's files with one of these suffixes (in any case), by name without it."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; it must hold {', '.join(suffixes)} files.")
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(name)
        # A leading dot: what macOS leaves next to every file on foreign disks.
        if suffix.lower() not in suffixes or name.startswith("."):
            continue
        if stem in found:
            raise ValueError(
                f"{folder / name}: {found[stem].name} has the same name but for the "
                "suffix; names must be unique within a folder."
            )
        found[stem] = folder / name
    return found


def unreadable(path, error) -> ValueError:
    return ValueError(
        f"{path}: can't be read ({error_reason(path, error)}); replace the file or remove it "
        "with its partner."
    )


def _raw_mode(picture):
    if picture.format != "PNG" or not picture.tile:
        return ""
    args = picture.tile[0][3]
    return args if isinstance(args, str) else args[0]


def stored_size(path):
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise unreadable(path, error) from error
