"""`Explanation`: the parts of an image's logits, and the pixels that context decides."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras import ops
from PIL import Image

from keras_psp.arguments import checked_integer
from keras_psp.explanation.reference import Reference
from keras_psp.files import local_path
from keras_psp.models.parts import LogitParts
from keras_psp.prediction.segmenter import SingleView
from keras_psp.visual.explanation import draw_explanation
from keras_psp.visual.overlays import save_image

_LISTED = 20  # class names in a message

Class = str | int
"""A class by its name or index."""


@dataclasses.dataclass(frozen=True)
class PixelParts:
    """The parts of a logit, or of a difference of two logits, at one pixel.

    Attributes:
        x, y: column and row of the pixel.
        target, other: names of the classes; `other` is None for the logit of `target` itself.
        parts: their values by name, see `Explanation.part_names`.
    """

    x: int
    y: int
    target: str
    other: str | None
    parts: dict[str, float]

    @property
    def total(self) -> float:
        """The sum of the parts, which is the logit or the difference."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value:+.2f}" for name, value in self.parts.items())
        what = self.target if self.other is None else f"{self.target} minus {self.other}"
        return f"{what} at {self.x} {self.y}: {parts}; sum {self.total:+.2f}"


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """The class of each pixel without some levels of the pyramid.

    Attributes:
        levels: the bin sizes of the levels that were replaced.
        reference: what replaced them, e.g. "their mean over the image".
        classes: (height, width), the classes without them.
        decided: (height, width) bool, whether the class differs, i.e. is decided by context.
        level: (height, width) int16, for these pixels the bin size of the level that decides
            most, else 0. That is the level whose replacement, on its own, most lowers the logit
            of the pixel's class relative to that of its class in `classes`.
    """

    levels: tuple[int, ...]
    reference: str
    classes: np.ndarray
    decided: np.ndarray
    level: np.ndarray

    @property
    def share(self) -> float:
        """The share of the pixels that are decided by context, 0 to 1."""
        return float(self.decided.mean())

    @property
    def shares(self) -> dict[int, float]:
        """The share of the pixels that each level decides, 0 to 1, by bin size."""
        return {bins: float((self.level == bins).mean()) for bins in self.levels}

    def __str__(self) -> str:
        shares = ", ".join(f"{bins}x{bins} {share:.1%}" for bins, share in self.shares.items())
        return (
            f"{self.share:.1%} of the pixels are decided by context (the levels are replaced by "
            f"{self.reference}); by level: {shares or 'there is none'}"
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Why the pixels of one image have their classes.

    All values are logits, before softmax and any temperature. At the network's output stride, the
    parts add up to the logits; both are resized to the image by the same interpolation, so they
    add up there as well.

    Attributes:
        image: (height, width, channels), upright: uint8 RGB, or the network's bands with the
            values in the file.
        classes: (height, width), what `keras_psp.predict` returns.
        class_names: names in index order.
        palette: (num_classes, 3) uint8, RGB.
        bin_sizes: bin sizes of the pyramid's levels.
        name: what the name of a saved file starts with.
        source: path or address of the image.

    Example:
        explanation = keras_psp.explain("harbor.jpg", "runs/mine")
        features, *levels, constant = explanation.parts("boat", "car")  # (height, width) each
        print(explanation.pixel(240, 180))
        print(explanation.context())
        explanation.save("harbor.png", "boat", "car")
    """

    image: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    palette: np.ndarray
    bin_sizes: tuple[int, ...]
    name: str
    source: str
    _parts: LogitParts
    _view: SingleView
    _reference: Reference

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts: "features", then "1x1" and so on for each level, and "constant"."""
        return ("features", *(f"{bins}x{bins}" for bins in self.bin_sizes), "constant")

    @property
    def low_resolution_logits(self) -> np.ndarray:
        """(h, w, num_classes) at the network's output stride, before resizing to the image."""
        return self._parts.logits

    @property
    def image_means(self) -> list[np.ndarray]:
        """The mean of each level over all positions of the image, (channels,) each."""
        return self._parts.means()

    @property
    def nbytes(self) -> int:
        """Number of bytes of the maps that are kept to compute parts."""
        return self._parts.nbytes

    def low_resolution_parts(self, target: Class, other: Class | None = None) -> np.ndarray:
        """The same as `parts`, but at the network's output stride, (parts, h, w)."""
        index = self._index(target)
        return self._parts.parts(index, None if other is None else self._index(other))

    def parts(self, target: Class, other: Class | None = None) -> np.ndarray:
        """Splits the logit of a class, or its difference from that of another class.

        Args:
            target: name or index of a class.
            other: name or index of the class to subtract; parts that favor `target` over
                `other` are positive.

        Returns:
            (parts, height, width) float32, in the order of `part_names`.

        Raises:
            ValueError: if there is no such class.
        """
        return self._resized(self.low_resolution_parts(target, other))

    def logits(self, target: Class, other: Class | None = None) -> np.ndarray:
        """The logit of a class, or its difference from another's, (height, width) float32."""
        logits = self._parts.logits
        difference = logits[..., self._index(target)]
        if other is not None:
            difference = difference - logits[..., self._index(other)]
        return self._resized(difference[None])[0]

    def pixel(
        self, x: int, y: int, target: Class | None = None, other: Class | None = None
    ) -> PixelParts:
        """Splits a logit, or a difference of two, at one pixel.

        Args:
            x, y: column and row, from 0.
            target: see `parts`. None for the pixel's class minus that of the next largest logit.
            other: see `parts`.

        Raises:
            ValueError: if the pixel is outside the image or there is no such class.
        """
        height, width = self.classes.shape
        x = checked_integer("x", x, least=0, most=width - 1)
        y = checked_integer("y", y, least=0, most=height - 1)
        if target is None:
            if other is not None:
                raise ValueError(f"other is {other!r}, but target is None; give both, or neither.")
            target, other = self._two_classes(x, y)
        index = self._index(target)
        second = None if other is None else self._index(other)
        maps = self._parts.parts(index, second)
        rows, columns = self._matrices
        values = np.einsum("a,c,nac->n", rows[y], columns[x], maps).tolist()
        names = self.class_names
        return PixelParts(
            x,
            y,
            names[index],
            None if second is None else names[second],
            dict(zip(self.part_names, values, strict=True)),
        )

    def parts_at(
        self, x: np.ndarray, y: np.ndarray, target: np.ndarray, other: np.ndarray
    ) -> np.ndarray:
        """Splits the difference of two logits at many pixels, for different classes at each.

        Args:
            x, y: (n,), columns and rows.
            target, other: (n,), indices of the classes.

        Returns:
            (parts, n) float64, in the order of `part_names`.
        """
        classes, numbers = np.unique(np.stack([target, other]), return_inverse=True)
        first, second = numbers.reshape(2, -1)
        parts = self._parts.class_parts(classes.tolist())
        return np.stack([self._differences(part, y, x, first, second) for part in parts])

    def next_classes(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The class with the largest logit other than a pixel's own, (n,) integers.

        Args:
            x, y: (n,), columns and rows.
        """
        logits = self._parts.logits
        total = sum(weight[:, None] * logits[place] for place, weight in self._places(y, x))
        total[np.arange(len(total)), self.classes[y, x]] = -np.inf
        return total.argmax(axis=1)

    def telling_pixel(self, target: Class | None = None, other: Class | None = None) -> PixelParts:
        """Splits a logit, or a difference of two, at the pixel where the pyramid adds most to it.

        Args:
            target, other: see `parts`; the pixel is one of class `target`. None for a pixel that
                is decided by context, and for its class minus the one it has without the pyramid.

        Returns:
            The same as `pixel`; for the image's center if there is no such pixel.
        """
        context, added = self.context(), np.zeros(self.classes.shape)
        if target is not None:
            among = self.classes == self._index(target)
            added = self.parts(target, other)[1:-1].sum(axis=0)
        else:
            among = context.decided
            rows, columns = np.nonzero(among)
            if len(rows):
                without = self._parts.logits_without(dict(enumerate(self._means)))
                classes = self.classes[rows, columns], context.classes[rows, columns]
                change = self._parts.logits - without
                added[rows, columns] = self._differences(change, rows, columns, *classes)
        if not among.any():
            height, width = among.shape
            return self.pixel(width // 2, height // 2, target, other)
        y, x = divmod(int(np.where(among, added, -np.inf).argmax()), among.shape[1])
        if target is None:
            target, other = self.classes[y, x], context.classes[y, x]
        return self.pixel(x, y, target, other)

    def context(self, levels: Sequence[int] | None = None) -> Context:
        """Finds the pixels whose class depends on the pyramid.

        The levels' maps are replaced by constants: their mean over all positions of the image, or
        of the reference images that `explain` was given. Everything after the pyramid is then
        computed again, including which values the ReLU lets through. The mean over the image
        doesn't change a level of one bin, since its map is constant itself.

        Args:
            levels: bin sizes of the levels to replace; None for all.

        Raises:
            ValueError: if the network has no such level.
        """
        return self._all_context if levels is None else self._context(self._numbers(levels))

    @functools.cached_property
    def _all_context(self):
        return self._context(range(len(self.bin_sizes)))

    def _context(self, numbers):
        means = self._means
        without = self._view.classes(
            self._parts.logits_without({number: means[number] for number in numbers})
        )
        decided = without != self.classes
        level = np.zeros(decided.shape, np.int16)
        if decided.any():
            rows, columns = np.nonzero(decided)
            classes = self.classes[rows, columns], without[rows, columns]
            most = np.full(len(rows), -np.inf)
            best = np.zeros(len(rows), np.int16)
            for number in numbers:
                alone = self._parts.logits_without({number: means[number]})
                loss = self._differences(self._parts.logits - alone, rows, columns, *classes)
                best[loss > most] = self.bin_sizes[number]
                most = np.maximum(most, loss)
            level[rows, columns] = best
        replaced = tuple(self.bin_sizes[number] for number in numbers)
        return Context(replaced, self.reference, without, decided, level)

    @property
    def reference(self) -> str:
        """What `context` puts in place of the levels, in words."""
        if self._reference != "image":
            return str(self._reference)
        stays = ", which leaves the level of one bin as it is" if 1 in self.bin_sizes else ""
        return f"their mean over the image{stays}"

    def figure(
        self,
        target: Class | None = None,
        other: Class | None = None,
        *,
        pixel: tuple[int, int] | None = None,
    ) -> Image.Image:
        """Draws the image, its classes with and without the pyramid, and the parts.

        Args:
            target, other: the classes of the maps and bars, see `parts`; None for the two with the
                largest logits at `pixel`.
            pixel: (x, y), the pixel of the bars; None for that of `telling_pixel`.

        Returns:
            The figure, RGB.

        Raises:
            ValueError: see `pixel` and `parts`.
        """
        if pixel is None:
            values = self.telling_pixel(target, other)
        else:
            values = self.pixel(*pixel, target, other)
        context = self.context()
        maps = self.parts(values.target, values.other)
        return draw_explanation(
            self.image,
            self.classes,
            context.classes,
            context.level,
            maps,
            self.part_names,
            class_names=self.class_names,
            palette=self.palette,
            bin_sizes=self.bin_sizes,
            pixel=(values.x, values.y),
            values=list(values.parts.values()),
            target=values.target,
            other=values.other,
            reference=self.reference,
        )

    def save(
        self,
        path: str | os.PathLike,
        target: Class | None = None,
        other: Class | None = None,
        *,
        pixel: tuple[int, int] | None = None,
        force: bool = False,
    ) -> Path:
        """Writes the figure.

        Args:
            path: file to write; its suffix selects the format.
            target, other, pixel: see `figure`.
            force: replace an existing file.

        Raises:
            FileExistsError: if the file exists and `force` is False.
            ValueError: see `figure`.
        """
        path = local_path("path", path)
        if path.exists() and not force:
            raise FileExistsError(f"{path} exists; choose another, or force=True to replace it.")
        save_image(self.figure(target, other, pixel=pixel), path)
        return path

    def __repr__(self) -> str:
        height, width = self.classes.shape
        return f"<Explanation of {self.source or self.name}, {width}x{height}>"

    @functools.cached_property
    def _matrices(self):
        return self._view.matrices(self._parts.size)

    @functools.cached_property
    def _means(self):
        return self.image_means if self._reference == "image" else self._reference.values

    def _resized(self, maps):
        rows, columns = self._matrices
        across = ops.matmul(maps.astype(np.float32), columns.T)
        return ops.convert_to_numpy(ops.matmul(rows, across))

    def _index(self, name: Class) -> int:
        return class_index(self.class_names, name)

    def _numbers(self, levels):
        """The numbers, from 0, of levels with the given bin sizes."""
        unknown = [bins for bins in levels if bins not in self.bin_sizes]
        if unknown:
            raise ValueError(
                f"levels has {unknown[0]!r}; choose from the network's bin_sizes, {self.bin_sizes}."
            )
        return sorted({self.bin_sizes.index(bins) for bins in levels})

    def _two_classes(self, x, y):
        """The class of a pixel, and the other one with the largest logit."""
        return int(self.classes[y, x]), int(self.next_classes(np.array([x]), np.array([y]))[0])

    def _differences(self, maps, rows, columns, first, second):
        """maps[..., first] - maps[..., second], resized at some pixels only."""
        total = np.zeros(len(rows))
        for place, weight in self._places(rows, columns):
            total += weight * (maps[(*place, first)] - maps[(*place, second)])
        return total

    def _places(self, rows, columns):
        """Yields indices into a low-resolution map, and weights, which add up to some pixels."""
        taps = [_taps(matrix) for matrix in self._matrices]
        (row_index, row_weight), (column_index, column_weight) = taps
        for i in range(row_index.shape[1]):
            for j in range(column_index.shape[1]):
                place = row_index[rows, i], column_index[columns, j]
                yield place, row_weight[rows, i] * column_weight[columns, j]


def _taps(matrix):
    """The few columns that each row of a matrix uses, and their weights, (rows, taps) each."""
    used = matrix != 0
    count = int(used.sum(axis=1).max())
    first = np.minimum(used.argmax(axis=1), matrix.shape[1] - count)
    index = first[:, None] + np.arange(count)
    return index, np.take_along_axis(matrix, index, axis=1)


def class_index(class_names: Sequence[str], name: Class) -> int:
    """The index of a class; raises ValueError for an unknown name or index."""
    if not isinstance(name, str):
        return checked_integer("class", name, least=0, most=len(class_names) - 1)
    if name in class_names:
        return list(class_names).index(name)
    names = ", ".join(class_names[:_LISTED])
    more = len(class_names) - _LISTED
    names += f" and {more} more" if more > 0 else ""
    raise ValueError(f"class {name!r} is unknown; the network has {names}.")
