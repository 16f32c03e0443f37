"""Error groups: wrong pixels by the paper's three kinds of mistakes, borders and the rest.

Section 3.1 of the PSPNet paper (arXiv 1612.01105, figure 2) shows examples of mismatched
relationships (a boat on a river predicted as car), confusion categories (part of a building as
skyscraper) and inconspicuous classes (street lights missed, things larger than the receptive
field broken up), but defines no measure. The rules, see `ErrorGroups`, are this package's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_psp.arguments import checked_integer
from keras_psp.evaluation.boundary import window_sums
from keras_psp.evaluation.checks import check_same_arguments, checked_masks
from keras_psp.metrics.confusion import confusion_matrix, ratio

GROUPS = ("mismatched", "confused", "missed", "broken", "border", "other")
"""Each wrong pixel is in one of these; "missed" and "broken" are inconspicuous classes."""

SIZE_EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Fractions of the image's area that separate the seven sizes of things in `Errors.sizes`."""

NO_ERROR = 255
"""Value of `ErrorGroups.map` where a pixel is correct or not labeled."""

_MISMATCHED, _CONFUSED, _MISSED, _BROKEN, _BORDER, _OTHER = range(len(GROUPS))
_SETTINGS = ("small", "large", "border", "apart", "chance", "mutual")
_COUNTS = ("confusion", "sizes", "present", "wrong")


class Pair(NamedTuple):
    """Pixels of two classes, first < second, predicted as each other."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    confused: bool  # whether the pair is a confusion category


class Mismatch(NamedTuple):
    """Pixels of a class that were predicted as one that does not belong in their image."""

    truth: int
    prediction: int
    pixels: int


@dataclass(frozen=True)
class Errors:
    """The result of `ErrorGroups`.

    Attributes:
        images: number of images.
        labeled: number of labeled pixels.
        wrong: number of these that are wrong.
        pixels: wrong pixels by group, in the order of `GROUPS`; they add up to `wrong`.
        by_class: (groups, num_classes) int64, `pixels` by the class of the label.
        pairs: classes confused with each other, most pixels first.
        mismatches: mismatched relationships, most pixels first.
        apart: (num_classes, num_classes) bool, classes that are kept apart, see `ErrorGroups`.
        sizes: (4, num_classes, sizes) int64: things, things found (at least half of their
            pixels are correct), pixels and correct pixels, by class and size of the thing, see
            `SIZE_EDGES`.
    """

    images: int
    labeled: int
    wrong: int
    pixels: dict[str, int]
    by_class: np.ndarray
    pairs: list[Pair]
    mismatches: list[Mismatch]
    apart: np.ndarray
    sizes: np.ndarray

    @property
    def shares(self) -> dict[str, float]:
        """Fraction of the wrong pixels in each group; NaN if nothing is wrong."""
        wrong = self.wrong or math.nan
        return {name: count / wrong for name, count in self.pixels.items()}

    @property
    def inconspicuous(self) -> int:
        """Pixels of the paper's third group, "missed" and "broken" together."""
        return self.pixels["missed"] + self.pixels["broken"]

    def recall_by_size(self) -> tuple[np.ndarray, np.ndarray]:
        """Fraction of things that are found, and of their pixels that are correct, by size.

        Returns:
            Two (sizes,) float64 arrays; NaN for sizes that do not occur.
        """
        things, things_found, pixels, correct = self.sizes.sum(axis=1)
        return ratio(things_found, things), ratio(correct, pixels)


class ErrorGroups:
    """Wrong pixels grouped by the kind of mistake.

    A *thing* is a connected part (8 neighbors) of one class in the labels. Two cars that touch are
    one thing, and a house behind a pole is two. Each wrong pixel is in the first of these groups
    that fits, so the groups are disjoint and add up to all wrong pixels:

    1. mismatched (mismatched relationship): the predicted class isn't in the image's labels, but
       a class that is kept apart from it is (other than the pixel's own). Two classes are kept
       apart if fewer images contain both than `apart` times the number expected by chance (images
       with one times images with the other, divided by all images), and at least `chance` images
       are expected.
    2. missed (inconspicuous, small): the thing covers less than `small` of the image and fewer
       than half of its pixels are correct. 0.003 is what COCO calls small, 32 x 32 pixels of
       640 x 480.
    3. border: the labels contain the predicted class within a few rows and columns of the pixel:
       `border` of the image's diagonal, rounded up. 0.0075 is the tolerance of Csurka et al. 2013
       ("What is a good evaluation measure for semantic segmentation?").
    4. confused (confusion categories): over all images the two classes are confused in both
       directions, each time for at least `mutual` of the pixels of the rarer class.
    5. broken (inconspicuous, large): the thing covers at least `large` of the image and at least
       half of its pixels are correct, so the pixel is in a gap.
    6. other: everything else.

    The limits of each rule are described in docs/evaluation.md. `+` combines counts from several
    processes. Memory grows by a few kilobytes per image.

    Args:
        num_classes: number of classes.
        ignore_class: label of the pixels that are left out, or None.
        small, large: fractions of the image's area.
        border: fraction of the image's diagonal.
        apart, chance, mutual: see above.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        groups = ErrorGroups(num_classes=2)
        groups.update(np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 1]]))
        groups.result().pixels  # {"mismatched": 0, ..., "missed": 0, ..., "border": 1, ...}
    """

    def __init__(
        self,
        num_classes: int,
        ignore_class: int | None = 255,
        *,
        small: float = 0.003,
        large: float = 0.1,
        border: float = 0.0075,
        apart: float = 0.25,
        chance: float = 4.0,
        mutual: float = 0.05,
    ):
        num_classes = checked_integer("num_classes", num_classes, least=2)
        settings = dict(zip(_SETTINGS, (small, large, border, apart, chance, mutual), strict=True))
        for name, value in settings.items():
            if not (0 <= value <= 1 or (name == "chance" and value >= 0)):
                allowed = "at least 0" if name == "chance" else "a fraction from 0 to 1"
                raise ValueError(f"{name}={value!r} must be {allowed}.")
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.settings = settings
        self._confusion = np.zeros((num_classes, num_classes + 1), np.int64)
        self._sizes = np.zeros((4, num_classes, len(SIZE_EDGES) + 1), np.int64)
        self._present = np.zeros((0, num_classes), bool)
        self._wrong = np.zeros((0, 5), np.int64)  # image, truth, prediction, group, pixels
        # Joined only on demand; otherwise each image would copy all those before it.
        self._new: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Counts one image.

        Args:
            truth: (height, width) integers, class indices or `ignore_class`.
            prediction: (height, width) integers; values that aren't class indices are wrong.

        Raises:
            ValueError: if an array is invalid.
        """
        truth, prediction = self._checked(truth, prediction)
        n = self.num_classes
        self._confusion += confusion_matrix(truth, prediction, n)
        group, (label, size, hits) = self._groups_in_image(truth, prediction)
        step = np.searchsorted(np.array(SIZE_EDGES) * truth.size, size, side="right")
        for row, counts in enumerate((1, 2 * hits >= size, size, hits)):
            np.add.at(self._sizes[row], (label, step), counts)
        wrong = (truth >= 0) & (truth != prediction)
        cells = (truth[wrong] * (n + 1) + prediction[wrong]) * len(GROUPS) + group[wrong]
        cells, pixels = np.unique(cells, return_counts=True)
        pairs, group = np.divmod(cells, len(GROUPS))
        image = len(self._present) + len(self._new)
        columns = (np.full_like(cells, image), *np.divmod(pairs, n + 1), group, pixels)
        self._new.append((np.isin(np.arange(n), truth), np.stack(columns, axis=1)))

    def result(self) -> Errors:
        """The groups over all images seen so far."""
        self._join()
        apart, confused = self._relations()
        image, truth, prediction, group, pixels = self._wrong.T
        present = self._present[image]
        group = self._groups_in_data(truth, prediction, group, present, apart, confused)
        matrix = self._confusion[:, :-1]
        by_class = np.zeros((len(GROUPS), self.num_classes), np.int64)
        np.add.at(by_class, (group, truth), pixels)
        mismatched = np.zeros_like(self._confusion)
        chosen = group == _MISMATCHED
        np.add.at(mismatched, (truth[chosen], prediction[chosen]), pixels[chosen])
        return Errors(
            images=len(self._present),
            labeled=int(self._confusion.sum()),
            wrong=int(by_class.sum()),
            pixels=dict(zip(GROUPS, by_class.sum(axis=1).tolist(), strict=True)),
            by_class=by_class,
            pairs=[
                Pair(a, b, int(matrix[a, b]), int(matrix[b, a]), bool(confused[a, b]))
                for a, b in largest(np.triu(matrix + matrix.T, 1))
            ],
            mismatches=[Mismatch(a, b, int(mismatched[a, b])) for a, b in largest(mismatched)],
            apart=apart,
            sizes=self._sizes.copy(),
        )

    def map(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """The group of each wrong pixel of an image, given all images seen so far.

        Args:
            truth, prediction: see `update`; the image is not counted.

        Returns:
            (height, width) uint8 indices into `GROUPS`, `NO_ERROR` elsewhere.
        """
        self._join()
        truth, prediction = self._checked(truth, prediction)
        apart, confused = self._relations()
        group, _ = self._groups_in_image(truth, prediction)
        wrong = (truth >= 0) & (truth != prediction)
        present = np.isin(np.arange(self.num_classes), truth)
        group_map = np.full(truth.shape, NO_ERROR, np.uint8)
        group_map[wrong] = self._groups_in_data(
            truth[wrong], prediction[wrong], group[wrong], present[None], apart, confused
        )
        return group_map

    def __add__(self, other: "ErrorGroups") -> "ErrorGroups":
        if not isinstance(other, ErrorGroups):
            return NotImplemented
        check_same_arguments(self._arguments(), other._arguments())
        self._join()
        other._join()
        total = ErrorGroups(**self._arguments())
        total._confusion = self._confusion + other._confusion
        total._sizes = self._sizes + other._sizes
        total._present = np.concatenate([self._present, other._present])
        later = other._wrong + np.array([len(self._present), 0, 0, 0, 0])
        total._wrong = np.concatenate([self._wrong, later])
        return total

    def arrays(self) -> dict[str, np.ndarray]:
        """All counts, e.g. for `np.savez(path, **groups.arrays())`."""
        self._join()
        ignored = [] if self.ignore_class is None else [self.ignore_class]
        return {
            **{name: getattr(self, f"_{name}").copy() for name in _COUNTS},
            "ignore_class": np.array(ignored, np.int64),
            "settings": np.array(list(self.settings.values())),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ErrorGroups":
        """Restores the counts that `arrays()` returned.

        Raises:
            ValueError: if the arrays are incomplete or have the wrong shapes.
        """
        try:
            confusion, ignored = np.asarray(arrays["confusion"]), arrays["ignore_class"]
            settings = dict(zip(_SETTINGS, map(float, arrays["settings"]), strict=True))
            groups = cls(len(confusion), int(ignored[0]) if len(ignored) else None, **settings)
            for name in _COUNTS:
                array, empty = np.asarray(arrays[name]), getattr(groups, f"_{name}")
                rows = name in ("present", "wrong")  # any number of rows
                if array.shape[rows:] != empty.shape[rows:] or array.ndim != empty.ndim:
                    raise ValueError(f"{name} has shape {array.shape}")
                setattr(groups, f"_{name}", array.astype(empty.dtype))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"invalid arrays of ErrorGroups ({error}); give the result of `arrays()`."
            ) from error
        return groups

    def _arguments(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "ignore_class": self.ignore_class, **self.settings}

    def _join(self):
        if self._new:
            present, wrong = zip(*self._new, strict=True)
            self._present = np.concatenate([self._present, np.stack(present)])
            self._wrong = np.concatenate([self._wrong, *wrong])
            self._new = []

    def _checked(self, truth, prediction):
        """Both as int64: ignored labels are -1, predictions outside the classes num_classes."""
        masks = checked_masks(truth=truth, prediction=prediction)
        truth, prediction = (mask.astype(np.int64) for mask in masks)
        ignored = np.zeros(truth.shape, bool)
        if self.ignore_class is not None:
            ignored = truth == self.ignore_class
        invalid = truth[((truth < 0) | (truth >= self.num_classes)) & ~ignored]
        if invalid.size:
            raise ValueError(
                f"truth has the value {invalid[0]}, but there are {self.num_classes} classes and "
                f"ignore_class is {self.ignore_class}; raise num_classes or set ignore_class."
            )
        no_class = (prediction < 0) | (prediction >= self.num_classes)
        truth[ignored] = -1
        return truth, np.where(no_class, self.num_classes, prediction)

    def _groups_in_image(self, truth, prediction):
        """The group each pixel would have if it were wrong, as far as the image alone decides.

        Returns missed, border, broken or other; and each thing's class, pixels and correct pixels.
        """
        thing = connected_components(truth)
        correct = truth == prediction
        size = np.bincount(thing.ravel())
        hits = np.bincount(thing[correct], minlength=len(size))
        label = np.zeros(len(size), np.int64)
        label[thing.ravel()] = truth.ravel()
        found = 2 * hits >= size
        missed = (size < self.settings["small"] * truth.size) & ~found
        mostly_correct = (size >= self.settings["large"] * truth.size) & found
        group = np.where(mostly_correct, _BROKEN, _OTHER)[thing]
        reach = math.ceil(self.settings["border"] * math.hypot(*truth.shape))
        wrong = (truth >= 0) & ~correct
        for predicted in np.unique(prediction[wrong]):
            pixels = wrong & (prediction == predicted)
            group[pixels & _dilated(truth == predicted, reach)] = _BORDER
        group[missed[thing]] = _MISSED
        labeled = label >= 0
        return group, (label[labeled], size[labeled], hits[labeled])

    def _relations(self):
        """Which classes are kept apart and which are confused with each other, (n, n) bool."""
        present = self._present.astype(np.float64)
        together = present.T @ present
        each = np.diag(together)
        expected = np.outer(each, each) / max(len(present), 1)
        apart = expected >= max(self.settings["chance"], 1e-9)
        apart &= together < self.settings["apart"] * expected
        matrix = self._confusion[:, :-1]
        labeled = self._confusion.sum(axis=1)
        both = np.minimum(matrix, matrix.T)
        confused = both >= self.settings["mutual"] * np.minimum.outer(labeled, labeled)
        confused &= both > 0
        np.fill_diagonal(confused, False)
        return apart, confused

    def _groups_in_data(self, truth, prediction, group, present, apart, confused):
        """The final groups of pixels, (m,), given the relations between classes in all images.

        `present` are the classes in the labels of each pixel's image: (m, num_classes) bool, or
        one row for all.
        """
        known = prediction < self.num_classes
        other = np.where(known, prediction, 0)
        strangers = np.count_nonzero(present & apart[other], axis=1) - apart[other, truth]
        absent = ~np.take_along_axis(present, other[:, None], axis=1)[:, 0]
        late = (group == _BROKEN) | (group == _OTHER)
        group = np.where(late & known & confused[truth, other], _CONFUSED, group)
        return np.where(known & absent & (strangers > 0), _MISMATCHED, group)


def largest(counts: np.ndarray) -> list[list[int]]:
    """Indices of the nonzero cells of a matrix, largest first."""
    return sorted(np.argwhere(counts).tolist(), key=lambda cell: -counts[tuple(cell)])


def connected_components(mask: np.ndarray) -> np.ndarray:
    """Int64 numbers, from 0, of the connected parts of equal values in a mask, with 8 neighbors."""
    # Runs of equal pixels within a row are joined to those they touch in the next row.
    starts = np.ones(mask.shape, bool)
    starts[:, 1:] = mask[:, 1:] != mask[:, :-1]
    run = np.cumsum(starts).reshape(mask.shape) - 1
    width = mask.shape[1]
    count = int(run[-1, -1]) + 1
    touching = []
    for shift in (-1, 0, 1):
        above = (slice(None, -1), slice(max(0, -shift), width - max(0, shift)))
        below = (slice(1, None), slice(max(0, shift), width - max(0, -shift)))
        same = mask[above] == mask[below]
        touching.append(run[above][same] * count + run[below][same])
    # Neighbors along a row repeat each other.
    edges = np.unique(np.concatenate(touching))
    first, second = np.divmod(edges, count)
    root = np.arange(count)
    while len(first):
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while (root[root] != root).any():
            root = root[root]
        first, second = root[first], root[second]
        first, second = first[first != second], second[first != second]
    return np.unique(root, return_inverse=True)[1].reshape(-1)[run]


def _dilated(mask, reach):
    """Whether a pixel of the mask is within `reach` rows and columns, (height, width) bool."""
    side = 2 * reach + 1
    return window_sums(np.pad(mask, reach), side, side) > 0
