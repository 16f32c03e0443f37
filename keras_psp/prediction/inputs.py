"""What a user names as photographs: files, folders, patterns, addresses, pictures in memory."""

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
_LONGEST = 100  # characters of a file's name, so that what is added to it fits everywhere


@dataclasses.dataclass(frozen=True)
class Input:
    """One photograph or video, not read yet.

    Attributes:
        source: for `read_input_image`.
        origin: what messages and tables call it: the path or address, or "photo 3" of the
            third in memory.
        stem: what its results' names begin with.
    """

    source: Any
    origin: str
    stem: str

    @property
    def path(self) -> Path | None:
        """Of a file."""
        in_file = isinstance(self.source, str | os.PathLike) and not is_url(self.source)
        return Path(self.source) if in_file else None

    @property
    def is_video(self) -> bool:
        """Whether its name is a video's."""
        if is_url(self.source):
            return _suffix(urllib.parse.urlparse(self.source).path) in VIDEO_SUFFIXES
        return self.path is not None and _suffix(self.path) in VIDEO_SUFFIXES


def is_one(photos: Any) -> bool:
    """Whether it's a single photograph: no list, folder or pattern of many."""
    if isinstance(photos, np.ndarray):
        return photos.ndim < 4
    if isinstance(photos, bytes | bytearray | memoryview | Image.Image) or is_url(photos):
        return True
    if isinstance(photos, str | os.PathLike):
        path = Path(photos).expanduser()
        return not path.is_dir() and not _is_pattern(path)
    return not isinstance(photos, Iterable)


def find_inputs(photos: Any, *, without: Path | None = None) -> Iterator[Input]:
    """Every photograph and video that is meant, in order; those of a folder by path.

    Args:
        photos: a path, address, pattern (`*`, `**`, `?`, `[...]`), folder with all below it,
            bytes, PIL image or array, (height, width[, channels]); an array of several,
            (n, height, width, channels), or an iterable of any of these, which is read as it
            is used.
        without: a folder to leave out of the others.

    Raises:
        ValueError: for a folder or pattern without any photograph.
    """
    for number, source in enumerate(_flat(photos, without), 1):
        yield _input(source, number)


def safe_stem(text: str) -> str:
    """A name for files on every system."""
    stem = re.sub(r"[^\w\-+.() ]", "_", text)[:_LONGEST].strip(" .")
    return stem or "photo"


def _flat(photos, without):
    if isinstance(photos, np.ndarray) and photos.ndim == 4:
        yield from photos
    elif isinstance(photos, str | os.PathLike) and not is_url(photos):
        yield from _files(os.fspath(photos), without)
    elif is_one(photos):
        yield photos
    else:
        for part in photos:
            yield from _flat(part, without)


def _files(name, without):
    path = Path(name).expanduser()
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if _counts(file, path, without)]
        if not found:
            raise ValueError(
                f"{name}: no photographs are in this folder or below it; their names must end in "
                f"{', '.join((*READABLE_SUFFIXES, *VIDEO_SUFFIXES))}."
            )
        yield from found
    elif _is_pattern(path):
        matched = sorted(map(Path, glob.glob(str(path), recursive=True)))
        found = [file for file in matched if _counts(file, None, without)]
        if not found:
            raise ValueError(f"{name}: no file's name is like this; correct the pattern.")
        yield from found
    else:
        yield path


def _counts(file, folder, without):
    """Whether a file that was found, not named, is one to be read."""
    if folder is not None:
        if _suffix(file) not in (*READABLE_SUFFIXES, *VIDEO_SUFFIXES):
            return False
        # A leading dot: what macOS leaves next to every file on foreign disks, and drafts.
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            return False
    return file.is_file() and (without is None or without.resolve() not in file.resolve().parents)


def _is_pattern(path):
    return glob.has_magic(str(path)) and not path.exists()


def _suffix(path):
    return Path(path).suffix.lower()


def _input(source, number):
    if is_url(source):
        name = Path(urllib.parse.unquote(urllib.parse.urlparse(source).path)).stem
        return Input(source, source, safe_stem(name))
    if isinstance(source, str | os.PathLike):
        return Input(source, source_name(source), safe_stem(Path(source).stem))
    file = getattr(source, "filename", "")  # of a PIL image
    stem = safe_stem(Path(file).stem) if isinstance(file, str) and file else f"photo_{number:04}"
    return Input(source, f"photo {number}", stem)
