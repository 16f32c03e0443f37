"""What a user passes as images: files, folders, patterns, addresses, arrays."""

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

from keras_psp.data.images import READABLE_SUFFIXES, is_url, source_name

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp")
_MAX_STEM = 100  # characters, so that a name with a suffix appended fits every file system


@dataclasses.dataclass(frozen=True)
class Input:
    """One image or video that is not read yet.

    Attributes:
        source: what `read_input_image` takes.
        origin: its name in messages and tables: the path or address, or "image 3" for the
            third if it is in memory.
        stem: what the names of its results start with.
    """

    source: Any
    origin: str
    stem: str

    @property
    def path(self) -> Path | None:
        """The path of a file, otherwise None."""
        in_file = isinstance(self.source, str | os.PathLike) and not is_url(self.source)
        return Path(self.source) if in_file else None

    @property
    def is_video(self) -> bool:
        """Whether the name ends like a video's."""
        in_url = urllib.parse.urlparse(self.source).path if is_url(self.source) else ""
        return Path(self.path or in_url).suffix.lower() in VIDEO_SUFFIXES


def is_single(images: Any) -> bool:
    """Whether `images` is a single image, not a list, folder or pattern of several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    if isinstance(images, bytes | bytearray | memoryview | Image.Image) or is_url(images):
        return True
    if isinstance(images, str | os.PathLike):
        path = Path(images).expanduser()
        return not path.is_dir() and not _is_pattern(path)
    return not isinstance(images, Iterable)


def find_inputs(images: Any, *, without: Path | None = None) -> Iterator[Input]:
    """Yields every image and video in order; those of a folder sorted by path.

    Args:
        images: a path, an address, a pattern (`*`, `**`, `?`, `[...]`), a folder (searched with
            its subfolders), bytes, a PIL image, an array, (height, width[, channels]), an array
            of several, (n, height, width, channels), or an iterable of any of these, which is
            consumed lazily.
        without: a folder to skip.

    Raises:
        ValueError: if a folder or pattern matches no image.
    """
    for number, source in enumerate(_flatten(images, without), 1):
        yield _input(source, number)


def safe_stem(text: str) -> str:
    """Turns a text into a file name that is valid on every system."""
    stem = re.sub(r"[^\w\-+.() ]", "_", text)[:_MAX_STEM].strip(" .")
    return stem or "photo"


def _flatten(images, without):
    if isinstance(images, np.ndarray) and images.ndim == 4:
        yield from images
    elif isinstance(images, str | os.PathLike) and not is_url(images):
        yield from _files(os.fspath(images), without)
    elif is_single(images):
        yield images
    else:
        for part in images:
            yield from _flatten(part, without)


def _files(name, without):
    path = Path(name).expanduser()
    if path.is_dir():
        matches: Iterable[Path] = path.rglob("*")
        suffixes = ", ".join((*READABLE_SUFFIXES, *VIDEO_SUFFIXES))
        problem = (
            "there are no images in this folder or its subfolders; their names must end in "
            f"{suffixes}."
        )
    elif _is_pattern(path):
        matches = map(Path, glob.glob(str(path), recursive=True))
        problem = "no file matches this pattern; correct it."
    else:
        yield path
        return
    folder = path if path.is_dir() else None
    files = [file for file in sorted(matches) if _is_input(file, folder, without)]
    if not files:
        raise ValueError(f"{name}: {problem}")
    yield from files


def _is_input(file, folder, without):
    """Whether to read a file found in a folder or by a pattern."""
    if folder is not None:
        if file.suffix.lower() not in (*READABLE_SUFFIXES, *VIDEO_SUFFIXES):
            return False
        # macOS writes hidden files next to every file on foreign disks; our drafts are hidden too.
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            return False
    return file.is_file() and (without is None or without.resolve() not in file.resolve().parents)


def _is_pattern(path):
    return glob.has_magic(str(path)) and not path.exists()


def _input(source, number):
    if is_url(source):
        name = Path(urllib.parse.unquote(urllib.parse.urlparse(source).path)).stem
        return Input(source, source, safe_stem(name))
    if isinstance(source, str | os.PathLike):
        return Input(source, source_name(source), safe_stem(Path(source).stem))
    file = getattr(source, "filename", "")  # of a PIL image
    stem = safe_stem(Path(file).stem) if isinstance(file, str) and file else f"photo_{number:04}"
    return Input(source, f"image {number}", stem)
