"""Label files in which each class has a color."""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_psp.data.label_files import opened, read_mask
from keras_psp.progress import in_threads

_COLOR_MODES = ("RGB", "RGBA")
_LOSSLESS = ("BMP", "GIF", "PNG", "PPM", "TIFF")
_MOST_FILES = 200  # that are searched for colors
_MOST = 20  # colors that a message lists

Color = tuple[int, int, int]
"""(red, green, blue), 0 to 255."""


def has_colors(path: Path) -> bool:
    """Whether a lossless label file stores colors instead of class indices."""
    with opened(path) as image:
        return image.mode in _COLOR_MODES and image.format in _LOSSLESS


class ColorReader:
    """Reads label files by the color of each class.

    Args:
        classes: maps each color to its class index, or to the value of ignored pixels.
        origin: what messages call the list of colors, e.g. the path of palette.txt.
    """

    def __init__(self, classes: Mapping[Color, int], origin: str):
        self._origin = origin
        codes = {_code(np.array(color)): index for color, index in classes.items()}
        self._codes = np.array(sorted(codes), np.int32)
        self._classes = np.array([codes[code] for code in self._codes.tolist()], np.uint8)

    def read(self, path: Path) -> np.ndarray:
        """Reads a label file as (height, width) uint8 class indices.

        Raises:
            ValueError: if the file is broken, lossily compressed or transparent, or has a color
                that isn't listed.
        """
        codes = _codes(path)
        place = np.searchsorted(self._codes, codes)
        place[place == len(self._codes)] = 0
        unknown = self._codes[place] != codes
        if unknown.any():
            values, counts = np.unique(codes[unknown], return_counts=True)
            most = int(np.argmax(counts))
            if len(values) == 1:
                which = "isn't a color"
            else:
                which = f"and {len(values) - 1} more aren't colors"
            raise ValueError(
                f"{path}: color {_text(_color(values[most]))} ({_pixels(counts[most])}) {which} of "
                f"{self._origin}; add a line for each, or draw and resize the labels without "
                "smoothing."
            )
        return self._classes[place]


def found_colors(paths: Sequence[Path], *, progress: bool = True) -> list[tuple[Color, float]]:
    """Returns the colors in label files, each with its share of the pixels, most frequent first.

    At most `_MOST_FILES` files, evenly spaced, are read.
    """
    even = np.linspace(0, len(paths) - 1, min(len(paths), _MOST_FILES)).astype(int).tolist()
    counts: collections.Counter[int] = collections.Counter()

    def count(index):
        try:
            return np.unique(_codes(paths[index]), return_counts=True)
        except ValueError:  # reported when it is read
            return np.empty(0, int), np.empty(0, int)

    for values, numbers in in_threads(count, even, "Finding colors", progress=progress):
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    total = max(1, sum(counts.values()))
    return [(_color(code), number / total) for code, number in counts.most_common()]


class UnnamedColors(ValueError):
    """Labels have colors, but nothing says which classes they are.

    Attributes:
        lines: lines of a palette.txt, with placeholders for the names.
    """

    def __init__(self, labels: Sequence[Path], palette: Path):
        colors = found_colors(labels, progress=False)
        self.lines: list[str] = []
        if len(colors) > 256:
            super().__init__(
                f"{labels[0]}: label has colors, and the labels hold {len(colors):,} of them, too "
                "many for classes; they were drawn or resized with smoothing, or these files "
                "aren't labels."
            )
            return
        listed = ", ".join(f"{_text(color)} ({share:.1%})" for color, share in colors[:_MOST])
        more = f" and {len(colors) - _MOST} more" if len(colors) > _MOST else ""
        super().__init__(
            f"{labels[0]}: label has colors instead of one class number per pixel, and {palette} "
            f"doesn't exist; write a line `index R G B name` into it for each color: {listed}"
            f"{more}. Or save the labels as 8-bit grayscale or palette PNG of class indices."
        )
        colors.sort(key=lambda item: item[0] != (0, 0, 0))  # black is usually the background
        self.lines = [
            f"{index} {' '.join(map(str, color))} NAME{index}"
            for index, (color, _) in enumerate(colors)
        ]


def _codes(path):
    """Reads a label file as (height, width) int32, red * 65536 + green * 256 + blue."""
    with opened(path) as image:
        mode, kind = image.mode, image.format
        if mode in (*_COLOR_MODES, "P"):
            values = np.asarray(image.convert("RGBA"))
    if mode not in (*_COLOR_MODES, "P"):
        read_mask(path)  # reports other faults
        raise ValueError(
            f"{path}: label has mode {mode}, but the first label has colors; save all labels in "
            "the same way."
        )
    if kind not in _LOSSLESS:
        raise ValueError(
            f"{path}: label is a {kind} file, whose compression changes colors; export the labels "
            "as PNG from the program that drew them."
        )
    clear = int((values[..., 3] < 255).sum())
    if clear:
        raise ValueError(
            f"{path}: {_pixels(clear)} of the label are transparent; save it without transparency."
        )
    return values[..., :3].astype(np.int32) @ np.array([65536, 256, 1], np.int32)


def _code(color):
    return int(color.astype(int) @ (65536, 256, 1))


def _color(code):
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def _text(color):
    return " ".join(map(str, color))


def _pixels(number):
    return f"{number:,} pixel{'s' if number != 1 else ''}"
