"""Class names and colors from text files next to the images."""

import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from keras_psp.data.label_files import read_mask, read_text
from keras_psp.data.pairs import ImagePairs
from keras_psp.palette import checked_palette
from keras_psp.progress import in_threads


class NamedByFiles(ImagePairs):
    """Pairs whose classes are named by text files in the same folder, or by their labels.

    Class names come from `class_names`, else from `root/classes.txt` (one name per line), else
    from the names in `root/palette.txt`. Without any of them all labels are read once, when
    they are first needed (with a progress bar on stderr), and the largest value other than
    `ignore_class` is the last class. Colors come from `palette`, else from `root/palette.txt`
    (lines `index R G B name`), else from `default_palette`.

    A subclass calls `_set_splits` in its constructor and defines `_pairs_of(split)`.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        ignore_class: int,
        class_names: Sequence[str] | None,
        palette: Sequence | np.ndarray | None,
    ):
        super().__init__({}, ignore_class=ignore_class, palette=palette, title=root)
        self.root = Path(root)
        self._given_names = class_names
        self._lock = threading.Lock()
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder.")

    def _set_splits(self, splits):
        self.splits = splits
        self._names = tuple(self._names_without_labels() or ())
        self._names_are_given = bool(self._names)
        if self._names:  # report a wrong text file now, not an hour later
            _ = self.palette

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in index order."""
        with self._lock:  # examples are read in threads; the labels are scanned once
            if not self._names:
                self._names = tuple(f"class {i}" for i in range(self._largest_label() + 1))
            return self._names

    @property
    def classes_are_named(self) -> bool:
        """Whether the number of classes is known without reading labels."""
        return self._names_are_given

    @cached_property
    def palette(self) -> np.ndarray:
        """(num_classes, 3) uint8, RGB."""
        if self._palette is not None or not self._palette_lines:
            return super().palette
        path = self.root / "palette.txt"
        for index, name in enumerate(self.class_names):
            if index not in self._palette_lines:
                raise ValueError(
                    f"{path}: no color for class {index} ({name}); "
                    f"add a line `{index} R G B {name}`."
                )
            listed = self._palette_lines[index][1]
            if self._given_names is None and listed and listed != name:
                raise ValueError(
                    f"{path}: class {index} is called {listed!r} but {name!r} in classes.txt; "
                    "the two files must agree."
                )
        return checked_palette([self._palette_lines[index][0] for index in range(self.num_classes)])

    def _names_without_labels(self):
        """Returns the class names if they are given or in a file, else None."""
        path = self.root / "classes.txt"
        if self._given_names is not None:
            origin, names = "class_names", list(self._given_names)
        elif path.is_file():
            lines = read_text(path).splitlines()
            origin, names = str(path), [line.strip() for line in lines if line.strip()]
        elif self._palette_lines and all(name for _, name in self._palette_lines.values()):
            origin = str(self.root / "palette.txt")
            lines = {i: name for i, (_, name) in self._palette_lines.items()}
            lines.pop(self.ignore_class, None)
            if sorted(lines) != list(range(len(lines))):
                raise ValueError(
                    f"{origin}: classes are {sorted(lines)}; they must be numbered 0, 1, 2 and so "
                    "on without a gap."
                )
            names = [lines[index] for index in sorted(lines)]
        else:
            return None
        if not 1 <= len(names) <= 256:
            raise ValueError(f"{origin}: {len(names)} class names; between 1 and 256 are needed.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{origin}: class {twice[0]!r} occurs twice; names must differ.")
        return names

    @cached_property
    def _palette_lines(self) -> dict[int, tuple[tuple[int, ...], str]]:
        """Maps class indices to ((R, G, B), name) in palette.txt; empty without that file."""
        path = self.root / "palette.txt"
        lines = {}
        for number, line in enumerate(read_text(path).splitlines() if path.is_file() else (), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            fields = line.split(maxsplit=4)
            try:
                index, *color = (int(field) for field in fields[:4])
                if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                    raise ValueError
            except ValueError:
                raise ValueError(
                    f"{path}, line {number}: {line.strip()!r} isn't `index R G B name` with colors "
                    "from 0 to 255."
                ) from None
            lines[index] = (tuple(color), fields[4].strip() if len(fields) > 4 else "")
        return lines

    def _largest_label(self):
        labels = {label for split in self._whole() for _, label in self.paths(split) if label}

        def largest_in(path):
            try:
                mask = read_mask(path)
            except ValueError:  # `check` and `example` report it
                return -1
            return int(mask[mask != self.ignore_class].astype(np.int16).max(initial=-1))

        largest = max(in_threads(largest_in, sorted(labels), "Counting classes"))
        if largest < 0:
            raise ValueError(
                f"{self.root}: every label pixel is ignore_class ({self.ignore_class}), so there "
                "is no class; write the names into classes.txt."
            )
        return largest
