"""Legends: class names next to their colors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import ImageDraw

from keras_psp.palette import VOID_COLOR

BACKGROUND, TEXT, _FRAME = (255, 255, 255), (30, 30, 30), (150, 150, 150)

Entry = tuple[str, tuple[int, ...]]
"""A name and its color."""


def legend_entries(
    occurring: Iterable[int],
    class_names: Sequence[str],
    palette: Sequence | np.ndarray,
    ignore_class: int,
) -> list[Entry]:
    """Returns names and colors of the classes that occur, in index order, ignored class last."""
    classes = sorted(set(occurring) - {ignore_class})
    entries = [(class_names[i], tuple(np.asarray(palette[i]).tolist())) for i in classes]
    if ignore_class in occurring:
        entries.append(("not labeled", VOID_COLOR))
    return entries


def share_entries(
    shares: Mapping[int, float],
    class_names: Sequence[str],
    palette: Sequence | np.ndarray,
    ignore_class: int,
) -> list[Entry]:
    """Returns legend entries with each class' share of the image, 0 to 1, in the order given."""
    entries = []
    for index, share in shares.items():
        ((name, color),) = legend_entries([index], class_names, palette, ignore_class)
        # Never 0 % for a class that occurs.
        percent = "<0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
        entries.append((f"{name}  {percent}", color))
    return entries


class Legend:
    """Draws names next to their colors, in lines.

    `step` is the distance in pixels from one entry to the next in a line, which fits the longest
    name; `line` is that from one line to the next. There are `gap` pixels on the left and right,
    and twice as many between two entries.
    """

    def __init__(self, entries: Sequence[Entry], font: Any, gap: int):
        self._entries, self._font, self._gap = entries, font, gap
        ascent, descent = font.getmetrics()
        self.line = ascent + descent + 6
        self._swatch, self._space = ascent + 2, max(6, ascent // 3)
        longest = max((font.getlength(name) for name, _ in entries), default=0)
        self.step = int(self._swatch * 1.5 + self._space + longest + 2 * gap)

    def per_line(self, width: int) -> int:
        """Returns how many entries fit on a line."""
        return max(1, (width - self._gap) // self.step)

    def draw(self, draw: ImageDraw.ImageDraw, top: int, per_line: int) -> None:
        """Draws the entries below the row of pixels `top`."""
        for index, (name, color) in enumerate(self._entries):
            row, column = divmod(index, per_line)
            left, upper = self._gap + column * self.step, top + row * self.line
            box = (left, upper, left + int(self._swatch * 1.5), upper + self._swatch)
            draw.rectangle(box, color, _FRAME)
            draw.text((box[2] + self._space, upper), name, TEXT, self._font)
