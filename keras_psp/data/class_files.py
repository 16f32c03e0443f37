"""Class names and colors from text files next to the images."""

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.color_labels import Color, ColorReader, UnnamedColors, has_colors
from keras_psp.data.label_files import check_names, listed_names, read_mask, read_text
from keras_psp.data.label_map import LabelMap
from keras_psp.data.pairs import ImagePairs
from keras_psp.files import local_path
from keras_psp.palette import checked_palette
from keras_psp.progress import in_threads


class NamedByFiles(ImagePairs):
    """Pairs whose classes are named by text files in the same folder, or by their labels.

    Class names come from `class_names`, else from `root/classes.txt` (one name per line), else
    from the names in `root/palette.txt`. Without any of them all labels are read once, when
    they are first needed (with a progress bar on stderr), and the largest value other than
    `ignore_class` is the last class. Colors come from `palette`, else from `root/palette.txt`
    (lines `index R G B name`), else from `root/labelmap.txt` (CVAT's `name:R,G,B::` lines), else
    from `default_palette`.

    If the first label is in RGB, all labels are read by these colors. Further lines in
    `palette.txt` with the same index are further colors of that class.

    A subclass calls `_set_splits` in its constructor and defines `_pairs_of(split)`.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        ignore_class: int,
        class_names: Sequence[str] | None,
        palette: Sequence | np.ndarray | None,
        label_map: Mapping[Any, Any] | None = None,
        channels: int = 3,
    ):
        super().__init__(
            {}, ignore_class=ignore_class, palette=palette, title=root, channels=channels
        )
        self.root = local_path("root", root)
        self._given_names = class_names
        self._lock = threading.Lock()
        self._label_map = None
        if label_map is not None:
            self._label_map = LabelMap(label_map, ignore_class=self.ignore_class)
            self.read_label = self._label_map.read
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder.")

    def _set_splits(self, splits):
        self.splits = splits
        self._names = tuple(self._names_without_labels() or ())
        self._names_are_given = bool(self._names)
        if self._names:  # report a wrong text file now, not an hour later
            _ = self.palette
        labels, colored = self._labels_of(splits[0]), False
        with contextlib.suppress(ValueError):  # `check` and `example` report a broken file
            colored = bool(labels) and has_colors(labels[0])
        if colored:
            self._read_by_color(labels)

    def _labels_of(self, split):
        try:
            return [label for _, label in self.paths(split) if label]
        except ValueError:  # reported when the split is used
            return []

    def _read_by_color(self, labels):
        """From now on reads all labels by their colors, since the first one has colors."""
        if self._label_map is not None:
            raise ValueError(
                f"{labels[0]}: label has colors, but label_map is for numbers; leave it out and "
                f"list the colors in {self.root / 'palette.txt'}."
            )
        origin, lines = self._palette_origin, [line[:2] for line in self._palette_lines]
        if self._palette is not None:
            origin, lines = "palette", list(enumerate(checked_palette(self._palette).tolist()))
        if not lines:
            raise UnnamedColors(labels, self.root / "palette.txt")
        count = 1 + max(index for index, _ in lines if index != self.ignore_class)
        if not self._names:
            names = self._palette_names
            self._names = tuple(names.get(i) or f"class {i}" for i in range(count))
            self._names_are_given = True
        colors: dict[Color, int] = {}
        for index, color in lines:
            if index >= len(self._names) and index != self.ignore_class:
                raise ValueError(
                    f"{origin}: class {index} has a color but no name; there are "
                    f"{len(self._names)} classes."
                )
            if colors.setdefault(tuple(color), index) != index:
                raise ValueError(
                    f"{origin}: classes {colors[tuple(color)]} and {index} have the same color "
                    f"{' '.join(map(str, color))}; labels with colors need different ones."
                )
        self.read_label = ColorReader(colors, origin).read

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
        # A class may have several lines, of which the first is its color.
        listed = {index: (color, name) for index, color, name in reversed(self._palette_lines)}
        for index, name in enumerate(self.class_names):
            if index not in listed:
                raise ValueError(
                    f"{self._palette_origin}: no color for class {index} ({name}); "
                    f"add a line `{index} R G B {name}`."
                )
            other = listed[index][1]
            if self._given_names is None and other and other != name:
                raise ValueError(
                    f"{self._palette_origin}: class {index} is called {other!r} but {name!r} in "
                    "classes.txt; the two files must agree."
                )
        return checked_palette([listed[index][0] for index in range(self.num_classes)])

    def _names_without_labels(self):
        """Returns the class names if they are given or in a file, else None."""
        path = self.root / "classes.txt"
        if listed := listed_names(self._given_names, path):
            origin, names = listed
        elif self._palette_names and all(self._palette_names.values()):
            origin, lines = self._palette_origin, self._palette_names
            if sorted(lines) != list(range(len(lines))):
                raise ValueError(
                    f"{origin}: classes are {sorted(lines)}; they must be numbered 0, 1, 2 and so "
                    "on without a gap."
                )
            names = [lines[index] for index in sorted(lines)]
        else:
            return None
        check_names(names, origin)
        return names

    @cached_property
    def _palette_origin(self) -> str:
        """The file that lists the colors, "" without one."""
        paths = (self.root / "palette.txt", self.root / "labelmap.txt")
        return next((str(path) for path in paths if path.is_file()), "")

    @cached_property
    def _palette_lines(self) -> list[tuple[int, Color, str]]:
        """(index, (R, G, B), name) from palette.txt or labelmap.txt."""
        if not self._palette_origin:
            return []
        path = Path(self._palette_origin)
        parse = _palette_line if path.name == "palette.txt" else _labelmap_line
        lines: list[tuple[int, Color, str]] = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                index, color, name = parse(line, len(lines))
                if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                    raise ValueError
            except ValueError:
                form = "index R G B name" if parse is _palette_line else "name:R,G,B::"
                raise ValueError(
                    f"{path}, line {number}: {line.strip()!r} isn't `{form}` with colors from 0 to "
                    "255."
                ) from None
            lines.append((index, color, name))
        return lines

    @property
    def _palette_names(self):
        """The first name of each class in the file of colors, "" where it has none."""
        names: dict[int, str] = {}
        for index, _, name in self._palette_lines:
            if index != self.ignore_class:
                names[index] = names.get(index) or name
        return names

    def _value_remedy(self, value):
        if self._label_map is not None or self.read_label is not read_mask:
            return super()._value_remedy(value)
        return f'map the value to a class or "ignore", e.g. label_map={{{value}: 1}}.'

    def _largest_label(self):
        labels = {label for split in self._whole() for _, label in self.paths(split) if label}

        def largest_in(path):
            try:
                mask = self.read_label(path)
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


def _palette_line(line, number):
    fields = line.split(maxsplit=4)
    index, *color = (int(field) for field in fields[:4])
    return index, tuple(color), fields[4].strip() if len(fields) > 4 else ""


def _labelmap_line(line, number):
    """Parses a line of the labelmap.txt that CVAT writes next to segmentation masks."""
    name, color, *_ = line.split(":")
    return number, tuple(int(value) for value in color.split(",")), name.strip()
