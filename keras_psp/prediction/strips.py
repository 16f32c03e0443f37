"""Predicts images too large for memory, one row of windows at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_psp.prediction.confidence import best_classes
from keras_psp.prediction.segmenter import Segmenter, _Window
from keras_psp.prediction.windows import Axis


def check_protocol(segmenter: Segmenter, name: str = "the image") -> int:
    """Returns the side of the windows; raises ValueError if a protocol needs the whole image.

    `name` is what the error calls the image.
    """
    protocol = segmenter.protocol
    if protocol.crop is None:
        raise ValueError(
            f"{name}: crop is None, but large images are predicted in windows; give crop "
            "(--crop), the size that the network was trained with."
        )
    if protocol.scales != (1.0,) or protocol.base_size is not None:
        raise ValueError(
            f"{name}: scales are {list(protocol.scales)} and base_size is {protocol.base_size}, "
            "but large images are predicted at their own size; leave out scales (--scales, "
            "--multi-scale) and give base_size=None (--base-size 0)."
        )
    return protocol.crop


class Strips:
    """Predicts the classes of an image whose rows are read when they are needed.

    The windows, and the averages over them, are those of `Segmenter`, so that the classes equal
    those of the whole image, even where windows meet. Only one row of windows of the image, and
    the logits of the rows of windows that overlap, are in memory.

    Args:
        segmenter: must have a `crop`, only scale 1 and no `base_size`.
        height, width: size of the image in pixels.
        read: returns rows of the image, (last - first, width, channels), given first and last.

    Raises:
        ValueError: if the segmenter's protocol needs the whole image.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        height: int,
        width: int,
        read: Callable[[int, int], np.ndarray],
    ):
        crop, overlap = check_protocol(segmenter), segmenter.protocol.overlap
        self.height, self.width = height, width
        self._segmenter, self._read = segmenter, read
        self._rows, self._columns = (Axis(side, crop, overlap) for side in (height, width))
        self.scales = [_Grid((self._rows, self._columns))]
        self.windows = len(self._rows.starts) * len(self._columns.starts)
        """The number of windows."""

    def classes(self, first: int = 0) -> Iterator[tuple[int, np.ndarray, int]]:
        """Yields (first row, classes, number of finished windows), from top to bottom.

        Classes are (rows, width) uint8, or uint16 for more than 256 classes.

        Args:
            first: the row to begin with, 0 or where an earlier part ended.
        """
        rows, segmenter = self._rows, self._segmenter
        step = segmenter.block_rows(self)
        maps: list[Any] = [None] * len(rows.starts)
        for number, start in enumerate(rows.starts):
            if start + rows.crop - rows.before <= first:
                continue  # it only covers rows before the first one
            maps[number] = self._logits(start - rows.before)
            last = self.height
            if number + 1 < len(rows.starts):
                # The same blocks of rows as for a whole image, so that floats add up alike.
                last = rows.starts[number + 1] - rows.before
                last -= last % step
            if last <= first:
                continue
            yield first, self._best(maps, first, last), (number + 1) * len(self._columns.starts)
            first = last
            for earlier in range(number):
                if rows.starts[earlier] + rows.crop - rows.before <= first:
                    maps[earlier] = None

    def _logits(self, top):
        """The logits of a row of windows, (columns, views, h, w, classes)."""
        segmenter, columns = self._segmenter, self._columns
        crop = self._rows.crop
        first, last = max(top, 0), min(top + crop, self.height)
        strip = _Row(self._read(first, last), first - top, columns, segmenter)
        pending: list[Any] = []
        for column in range(len(columns.starts)):
            for mirrored in (False, True)[: 1 + segmenter.protocol.flip]:
                window = _Window(strip, 0, 0, column, mirrored)
                pending.append((window, strip.cut(window)))
                if len(pending) >= segmenter.protocol.batch_size:
                    segmenter._run(pending)
        segmenter._run(pending)
        return strip.logits

    def _best(self, maps, first, last):
        segmenter = self._segmenter
        dtype = np.uint8 if segmenter.model.num_classes <= 256 else np.uint16
        classes: np.ndarray = np.empty((last - first, self.width), dtype)
        for row, block in segmenter._blocks(self, [maps], first=first, last=last):
            best = ops.convert_to_numpy(segmenter._compiled(best_classes)(block))
            classes[row - first : row - first + len(best)] = best[: last - row, : self.width]
        return classes


class _Grid:
    """The only scale of an image, for `Segmenter`."""

    def __init__(self, grid):
        self.grid = grid
        # Logits of a single window needn't become probabilities.
        self.plain = all(len(axis.starts) == 1 for axis in grid)


class _Row:
    """A row of windows in progress; takes the place of an image in `Segmenter`."""

    def __init__(self, pixels, above, columns, segmenter):
        self._pixels, self._above, self._columns = pixels, above, columns
        self._mean, self._views = segmenter._mean, 1 + segmenter.protocol.flip
        self.logits: Any = None

    def cut(self, window: _Window) -> np.ndarray:
        """The pixels of a window, with the mean beyond the image's edges; mirrored if asked for."""
        crop, before = self._columns.crop, self._columns.before
        left = self._columns.starts[window.column] - before
        inside = self._pixels[:, max(left, 0) : left + crop]
        pixels = np.tile(self._mean, (crop, crop, 1))
        left = max(-left, 0)
        pixels[self._above : self._above + len(inside), left : left + inside.shape[1]] = inside
        return pixels[:, ::-1] if window.mirrored else pixels

    def take(self, window: _Window, logits: np.ndarray) -> None:
        """Stores the logits of a window."""
        if self.logits is None:
            count = len(self._columns.starts)
            self.logits = np.empty((count, self._views, *logits.shape), np.float32)
        self.logits[window.column, int(window.mirrored)] = logits
