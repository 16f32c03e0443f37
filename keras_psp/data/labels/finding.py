"""Finds the files of a labeling tool's export: annotation files, and the images they name."""

import functools
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from keras_psp.data.division import split_named
from keras_psp.data.images import IMAGE_SUFFIXES


def files_below(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yields the files in a folder and its subfolders with one of the suffixes, sorted.

    If `root` is a file, yields that file.
    """
    if root.is_file():
        yield root
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith("."):
                yield Path(folder, name)


def split_of(path: Path, root: Path) -> str | None:
    """Returns the split that a folder between `root` and a file is named after, or None."""
    parts = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    return next((split for part in parts if (split := split_named(part))), None)


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises a ValueError that names it."""
    try:
        with open(path, "rb") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:  # including errors of the encoding
        raise ValueError(
            f"{path}: isn't JSON ({str(error).split(chr(10))[0]}); export or copy it again."
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror}); check the disk.") from None


class ImageFinder:
    """Finds the images that annotation files name, wherever they are in a folder."""

    def __init__(self, root: Path):
        self._root = root

    @functools.cached_property
    def _by_name(self):
        paths: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(self._root, IMAGE_SUFFIXES):
            paths[path.name].append(path)
        return paths

    def find(self, name: Any, *near: Path, origin: str) -> Path:
        """Returns the path of an image.

        Args:
            name: its name in the annotation, which may have folders.
            near: folders in which it is searched first.
            origin: what errors call the annotation.

        Raises:
            ValueError: if it isn't there, or there are several.
        """
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise ValueError(f"{origin}: has {name!r} as its image's name; export it again.")
        relative = PurePosixPath(PureWindowsPath(name).as_posix())
        for folder in near:
            path = Path(os.path.normpath(folder / relative))
            if path.is_file():
                return path
        tails = self._by_name.get(relative.name, [])
        # Prefers the path with the most folders in common.
        for count in range(len(relative.parts), 0, -1):
            end = relative.parts[-count:]
            matching = [path for path in tails if path.parts[-count:] == end]
            if len(matching) == 1:
                return matching[0]
            if matching:
                raise ValueError(
                    f"{origin}: its image {name} may be {matching[0]} or {matching[1]}; remove "
                    "one of them, or keep the folders of the export."
                )
        raise ValueError(
            f"{origin}: its image {name} isn't in {self._root}; export the labels with their "
            "images, or copy the images there."
        )
