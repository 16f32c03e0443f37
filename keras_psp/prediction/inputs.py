"""Finds the images that a user passes: files, folders, patterns, addresses, arrays."""

import dataclasses
import glob
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.data.images import IMAGE_SUFFIXES, is_url, source_name
from keras_psp.files import local_path

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp")
_MAX_STEM = 100  # characters, so that a name with a suffix appended fits every file system
TABLE = "predictions.csv"
"""Name of the table in a folder of results."""


@dataclasses.dataclass(frozen=True)
class Input:
    """One image or video that hasn't been read yet.

    `source` is what `read_image` takes, and `origin` its name in messages and tables: the
    path or address, or "image 3" for the third if it is in memory. The names of the results start
    with `stem`. If `is_raster`, it is predicted from disk to disk; if `has_reference`, its classes
    are also written as a GeoTIFF.
    """

    source: Any
    origin: str
    stem: str
    is_raster: bool = False
    has_reference: bool = False

    @property
    def path(self) -> Path | None:
        """The path of a file, otherwise None."""
        in_file = isinstance(self.source, str | os.PathLike) and not is_url(self.source)
        return Path(self.source) if in_file else None

    @property
    def is_video(self) -> bool:
        """Whether the name has the suffix of a video."""
        in_url = urllib.parse.urlparse(self.source).path if is_url(self.source) else ""
        return Path(self.path or in_url).suffix.lower() in VIDEO_SUFFIXES


def is_single(images: Any) -> bool:
    """Whether `images` is a single image, not a list, folder or pattern of several."""
    if _is_array(images):
        return len(images.shape) < 4
    if isinstance(images, bytes | bytearray | memoryview | Image.Image) or is_url(images):
        return True
    if isinstance(images, str | os.PathLike):
        path = Path(os.path.expanduser(images))
        return not path.is_dir() and not _is_pattern(path)
    return not isinstance(images, Iterable)


def find_inputs(images: Any, *, without: Path | None = None) -> Iterator[Input]:
    """Yields every image and video in order; those of a folder sorted by path.

    See `keras_psp.predict` for `images`; an iterable is consumed lazily. The folder `without` is
    skipped. Raises ValueError for a folder or pattern that matches no image.
    """
    for number, source in enumerate(_flatten(images, without), 1):
        name, origin = source, f"image {number}"
        if is_url(source):
            name, origin = urllib.parse.unquote(urllib.parse.urlparse(source).path), source
        elif isinstance(source, str | os.PathLike):
            origin = source_name(source)
        else:
            name = getattr(source, "filename", None)  # of a PIL image
            if not isinstance(name, str) or not name:
                name = f"photo_{number:04}"
        yield Input(source, origin, safe_stem(Path(name).stem))


def safe_stem(text: str) -> str:
    """Turns a text into a file name that is valid on every system."""
    stem = re.sub(r"[^\w\-+.() ]", "_", text)[:_MAX_STEM].strip(" .")
    return stem or "photo"


def _is_array(value):
    return hasattr(value, "__array__") and hasattr(value, "shape")


def _is_pair(value):
    """Whether a value is (image, mask), or a batch of both."""
    if not (isinstance(value, tuple) and len(value) == 2 and all(map(_is_array, value))):
        return False
    image, mask = (tuple(part.shape) for part in value)
    return len(image) >= 3 and mask in (image[:-1], (*image[:-1], 1))


def _flatten(images, without):
    if _is_array(images) and not isinstance(images, np.ndarray):
        import keras  # a tensor needs it anyway

        images = keras.ops.convert_to_numpy(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        yield from images
    elif _is_pair(images):
        raise ValueError(
            "the images come with masks, as (image, mask); give the images alone, e.g. "
            "data.map(lambda image, mask: image), or a list if both are images."
        )
    elif isinstance(images, str | os.PathLike) and not is_url(images):
        yield from _files(os.fspath(images), without)
    elif is_single(images):
        yield images
    else:
        for part in images:
            yield from _flatten(part, without)


def _files(name, without):
    path = local_path("image", name)
    matches: Iterable[Path]
    results = set() if without is None else {without.resolve()}
    if path.is_dir():
        suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
        entries = list(path.rglob("*"))
        # Overlays of earlier predictions aren't inputs.
        results |= {file.parent.resolve() for file in entries if file.name == TABLE}
        matches = (
            file
            for file in entries
            if file.suffix.lower() in suffixes
            # macOS hides a file next to every file on foreign disks; our drafts are hidden too.
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        problem = (
            "there are no images in this folder or its subfolders; their names must end in "
            f"{', '.join(suffixes)}."
        )
    elif _is_pattern(path):
        matches = map(Path, glob.glob(str(path), recursive=True))
        problem = "no file matches this pattern; correct it."
    else:
        yield path
        return
    files = [
        file
        for file in sorted(matches)
        if file.is_file() and results.isdisjoint(file.resolve().parents)
    ]
    if not files:
        raise ValueError(f"{name}: {problem}")
    yield from files


def _is_pattern(path):
    return glob.has_magic(str(path)) and not path.exists()
