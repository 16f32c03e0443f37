"""Finds the files of a labeling tool's export: annotation files, and the images they name."""

import functools
import json
import os
import unicodedata
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
            paths[_composed(path.name)].append(path)
        return paths

    @functools.cached_property
    def _by_stem(self):
        paths: dict[Path, list[Path]] = defaultdict(list)
        for path in files_below(self._root, IMAGE_SUFFIXES):
            paths[path.with_suffix("")].append(path)
        return paths

    def find(
        self,
        name: Any,
        *near: Path,
        origin: str,
        split: str | None = None,
        annotation: Path | None = None,
    ) -> Path:
        """Returns the path of an image.

        Args:
            name: its name in the annotation, which may have folders.
            near: folders in which it is searched first.
            origin: what errors call the annotation.
            split: that of the annotation, if it is known; of several images with this name, the
                one in a folder of this split is returned.
            annotation: the annotation file, if it is for one image. If they were renamed
                together, the image is next to it; another folder may have one of the old name.

        Raises:
            ValueError: if it isn't there, or there are several.
        """
        valid = isinstance(name, str) and name.strip() and "\0" not in name
        relative = PurePosixPath(PureWindowsPath(name if valid else "").as_posix())
        for folder in near if valid else ():
            path = Path(os.path.normpath(folder / relative))
            if path.is_file():
                return path
        if annotation and len(renamed := self._by_stem[annotation.with_suffix("")]) == 1:
            return renamed[0]
        if not valid:
            raise ValueError(f"{origin}: has {name!r} as its image's name; export it again.")
        tails = self._by_name.get(_composed(relative.name), [])
        # Prefers the path with the most folders in common.
        for count in range(len(relative.parts), 0, -1):
            end = [_composed(part) for part in relative.parts[-count:]]
            matching = [
                path for path in tails if [_composed(part) for part in path.parts[-count:]] == end
            ]
            if len(matching) > 1 and split is not None:
                inside = [path for path in matching if split_of(path, self._root) == split]
                matching = inside or matching
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


def _composed(name):
    """Returns a name in Unicode's composed form; on macOS, accents may be separate characters."""
    return unicodedata.normalize("NFC", name)
