"""Wrong pixels by the kind of mistake: the paper's three groups, borders and the rest.

Section 3.1 of the PSPNet paper (arXiv 1612.01105, figure 2) names what a network without
global context gets wrong: *mismatched relationships* (a boat on a river called a car),
*confusion categories* (one building partly called skyscraper) and *inconspicuous classes*
(street lights overlooked, things larger than the receptive field broken up). It shows pictures
and gives no measure; the definitions here are this package's own. Each is a rule on the labels
and the predictions alone, see `ErrorGroups`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

GROUPS = ("mismatched", "confused", "missed", "broken", "border", "other")
"""Every wrong pixel is in one of these; "missed" and "broken" are inconspicuous classes."""

SIZE_EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Shares of the picture's area between the seven sizes of things in `Errors.sizes`."""

NO_ERROR = 255
"""Value of `ErrorGroups.map` where a pixel is right or not labeled."""

_MISMATCHED, _CONFUSED, _MISSED, _BROKEN, _BORDER, _OTHER = range(len(GROUPS))
_SETTINGS = ("small", "large", "border", "apart", "chance", "mutual")


class Pair(NamedTuple):
    """Two classes and the pixels of each that were taken for the other.

    Attributes:
        first, second: class ids, first < second.
        first_as_second, second_as_first: pixels.
        confused: whether the pair counts as a confusion category.
    """

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    confused: bool


class Mismatch(NamedTuple):
    """A class that was predicted in pictures where it does not belong.

    Attributes:
        truth, prediction: class ids.
        pixels: how many.
    """

    truth: int
    prediction: int
    pixels: int


@dataclass(frozen=True)
class Errors:
    """What `ErrorGroups.result` found.

    Attributes:
        images: how many were seen.
        labeled: pixels that count.
        wrong: pixels of these that are wrong.
        pixels: wrong pixels by group, the keys are `GROUPS`; they add up to `wrong`.
        by_class: (groups, num_classes) int64, `pixels` by the class that the labels give.
        pairs: the classes taken for one another, most pixels first.
        mismatches: mismatched relationships, most pixels first.
        apart: (num_classes, num_classes) bool, classes that keep apart, see `ErrorGroups`.
        sizes: (4, num_classes, sizes) int64: things, things found (at least half of their
            pixels are right), pixels, right pixels; by class and size of the thing, see
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
        """Share of the wrong pixels by group; NaN where nothing is wrong."""
        wrong = self.wrong or math.nan
        return {name: count / wrong for name, count in self.pixels.items()}

    @property
    def inconspicuous(self) -> int:
        """Pixels of the paper's third group, "missed" and "broken" together."""
        return self.pixels["missed"] + self.pixels["broken"]

    def recall_by_size(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall of things by size: the share that was found, and of the pixels that are right.

        Returns:
            Two (sizes,) float64, NaN where no thing has the size.
        """
        things, found, pixels, right = self.sizes.sum(axis=1).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return found / things, right / pixels


class ErrorGroups:
    """Wrong pixels by the kind of mistake.

    A *thing* is a connected part (8 neighbours) of one class in the labels; labels don't part
    two cars that touch, and a pole before a house makes two things of the house. A wrong
    pixel is in the first of these groups that fits, so the groups are disjoint and add up to
    all wrong pixels:

    1. mismatched (mismatched relationship): the labels of this picture don't have the predicted
       class, and have another class, not the pixel's own, that keeps apart from it. Two classes
       keep apart where pictures with both are fewer than `apart` of what chance would give
       (pictures with one times pictures with the other, by all pictures), and chance would give
       at least `chance`.
       It can't tell what every person sees but no label says, as a car upside down, nor anything
       from few pictures: with fewer than 15 it stays empty. Rare classes keep apart from none,
       nor do any where all pictures are of one kind, as streets. Frames of one video are alike,
       and may make classes keep apart by accident: look at `Errors.apart`.
    2. missed (inconspicuous, small): the thing has less than `small` of the picture's area and
       fewer than half of its pixels are right. 0.003 is what COCO calls small, 32 x 32 pixels
       of 640 x 480.
       It can't tell an overlooked thing from one that was seen and taken for something else,
       nor a small thing from a scrap: sky between leaves is small as well.
    3. border: the labels have the predicted class within a few rows and columns, `border` of
       the picture's diagonal, rounded up. 0.0075 is the tolerance of Csurka et al. 2013 ("What
       is a good evaluation measure for semantic segmentation?").
       It can't tell a network's coarse edge from an annotator's.
    4. confused (confusion categories): in all pictures together the two classes are taken for
       one another: in both directions, pixels of at least `mutual` of the rarer class.
       It can't tell whether they look alike, nor does it see a class that always loses to
       another: that is one-sided.
    5. broken (inconspicuous, large): the thing has at least `large` of the picture's area and
       at least half of its pixels are right, so this one is a gap in it.
       It can't tell why: the receptive field is not measured, the thing's size stands for it.
    6. other: everything else.

    The groups describe mistakes, not causes: a network with more context need not have fewer
    in the first. Compare two networks on the same pictures, by pixels rather than by shares.

    Args:
        num_classes: number of classes.
        ignore_class: label whose pixels are left out, or None.
        small, large: shares of the picture's area.
        border: share of the picture's diagonal.
        apart, chance, mutual: see above.

    Two add up to one that has seen the pictures of both, as several processes need it:

        total = groups + ErrorGroups.from_arrays(np.load("other.npz"))

    Memory grows with the pictures, by some kilobytes each.
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
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}; at least 2 classes are needed.")
        settings = dict(zip(_SETTINGS, (small, large, border, apart, chance, mutual), strict=True))
        for name, value in settings.items():
            if not (0 <= value <= 1 or (name == "chance" and value >= 0)):
                upper = "at least 0" if name == "chance" else "a share from 0 to 1"
                raise ValueError(f"{name}={value!r} must be {upper}.")
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.settings = settings
        self._confusion = np.zeros((num_classes, num_classes + 1), np.int64)
        self._sizes = np.zeros((4, num_classes, len(SIZE_EDGES) + 1), np.int64)
        self._present = np.zeros((0, num_classes), bool)
        self._wrong = np.zeros((0, 5), np.int64)  # picture, truth, prediction, group, pixels
        # Joined only when they are asked for, or each picture would copy all before it.
        self._new_present: list[np.ndarray] = []
        self._new_wrong: list[np.ndarray] = []

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Count one picture.

        Args:
            truth: (height, width) integers, class ids or `ignore_class`.
            prediction: (height, width) integers; a value that is no class is wrong.
        """
        truth, prediction = self._checked(truth, prediction)
        labeled = truth >= 0
        n = self.num_classes
        cells = truth[labeled] * (n + 1) + prediction[labeled]
        self._confusion += np.bincount(cells, minlength=n * (n + 1)).reshape(n, n + 1)
        group, things = self._local(truth, prediction)
        self._count_things(*things, area=truth.size)
        wrong = labeled & (truth != prediction)
        cells = (truth[wrong] * (n + 1) + prediction[wrong]) * len(GROUPS) + group[wrong]
        cells, pixels = np.unique(cells, return_counts=True)
        pairs, group = np.divmod(cells, len(GROUPS))
        picture = len(self._present) + len(self._new_present)
        columns = (np.full_like(cells, picture), *np.divmod(pairs, n + 1), group, pixels)
        self._new_wrong.append(np.stack(columns, axis=1))
        self._new_present.append(np.isin(np.arange(n), truth[labeled]))

    def result(self) -> Errors:
        """The groups of all pictures seen."""
        self._join()
        apart, confused = self._relations()
        picture, truth, prediction, group, pixels = self._wrong.T
        group = self._grouped(
            truth, prediction, group, self._present[picture], apart=apart, confused=confused
        )
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
            pairs=self._pairs(confused),
            mismatches=[
                Mismatch(first, second, int(mismatched[first, second]))
                for first, second in _most(mismatched)
            ],
            apart=apart,
            sizes=self._sizes.copy(),
        )

    def map(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Where in a picture the groups are, by what is known from the pictures seen.

        Args:
            truth, prediction: see `update`; the picture isn't counted again.

        Returns:
            (height, width) uint8 indices into `GROUPS`, `NO_ERROR` elsewhere.
        """
        self._join()
        truth, prediction = self._checked(truth, prediction)
        apart, confused = self._relations()
        group, _ = self._local(truth, prediction)
        wrong = (truth >= 0) & (truth != prediction)
        present = np.isin(np.arange(self.num_classes), truth)
        found = np.full(truth.shape, NO_ERROR, np.uint8)
        found[wrong] = self._grouped(
            truth[wrong],
            prediction[wrong],
            group[wrong],
            np.broadcast_to(present, (int(wrong.sum()), self.num_classes)),
            apart=apart,
            confused=confused,
        )
        return found

    def __add__(self, other: "ErrorGroups") -> "ErrorGroups":
        """The groups of the pictures of both."""
        if not isinstance(other, ErrorGroups):
            return NotImplemented
        for name, value in self._arguments().items():
            if other._arguments()[name] != value:
                raise ValueError(
                    f"{name} is {value} in one and {other._arguments()[name]} in the other; "
                    "ErrorGroups add up only with the same arguments."
                )
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
        """All that was counted, for `np.savez(path, **groups.arrays())`."""
        self._join()
        ignored = [] if self.ignore_class is None else [self.ignore_class]
        return {
            "confusion": self._confusion.copy(),
            "sizes": self._sizes.copy(),
            "present": self._present.copy(),
            "wrong": self._wrong.copy(),
            "ignore_class": np.array(ignored, np.int64),
            "settings": np.array(list(self.settings.values())),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ErrorGroups":
        """One like that whose `arrays()` these are.

        Raises:
            ValueError: where they are not.
        """
        try:
            confusion, ignored = np.asarray(arrays["confusion"]), arrays["ignore_class"]
            settings = dict(zip(_SETTINGS, map(float, arrays["settings"]), strict=True))
            groups = cls(len(confusion), int(ignored[0]) if len(ignored) else None, **settings)
            for name in ("confusion", "sizes", "present", "wrong"):
                array, own = np.asarray(arrays[name]), getattr(groups, f"_{name}")
                free = name in ("present", "wrong")  # their first side is the number of rows
                if array.shape[free:] != own.shape[free:] or array.ndim != own.ndim:
                    raise ValueError(f"{name} has shape {array.shape}")
                setattr(groups, f"_{name}", array.astype(own.dtype))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"these are no arrays of ErrorGroups ({error}); give what `arrays()` returned."
            ) from error
        return groups

    def _arguments(self):
        return {
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
            **self.settings,
        }

    def _join(self):
        if self._new_present:
            self._present = np.concatenate([self._present, np.stack(self._new_present)])
            self._wrong = np.concatenate([self._wrong, *self._new_wrong])
            self._new_present, self._new_wrong = [], []

    def _checked(self, truth, prediction):
        """Both as int64: labels that don't count -1, predictions that are no class the last."""
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        for name, mask in (("truth", truth), ("prediction", prediction)):
            if mask.ndim != 2 or not mask.size or not np.issubdtype(mask.dtype, np.integer):
                raise ValueError(
                    f"{name} has shape {mask.shape} and dtype {mask.dtype}; it must be "
                    "(height, width) integers (of scores, take the argmax first)."
                )
        if truth.shape != prediction.shape:
            raise ValueError(
                f"truth has shape {truth.shape} and prediction {prediction.shape}; predict at "
                "the size of the labels."
            )
        truth, prediction = truth.astype(np.int64), prediction.astype(np.int64)
        ignored = np.zeros(truth.shape, bool)
        if self.ignore_class is not None:
            ignored = truth == self.ignore_class
        strange = truth[((truth < 0) | (truth >= self.num_classes)) & ~ignored]
        if strange.size:
            raise ValueError(
                f"truth has the value {strange[0]}, but there are {self.num_classes} classes and "
                f"ignore_class is {self.ignore_class}; raise num_classes or set ignore_class."
            )
        no_class = (prediction < 0) | (prediction >= self.num_classes)
        truth[ignored] = -1
        return truth, np.where(no_class, self.num_classes, prediction)

    def _local(self, truth, prediction):
        """What one picture tells: the group of each pixel were it wrong, and the things.

        Returns:
            (height, width) int64 groups: missed, border, broken or other; and of the things
            class, pixels and right pixels.
        """
        thing = connected_components(truth)
        right = truth == prediction
        size = np.bincount(thing.ravel())
        hits = np.bincount(thing[right], minlength=len(size))
        kind = np.zeros(len(size), np.int64)
        kind[thing.ravel()] = truth.ravel()
        found = 2 * hits >= size
        missed = (size < self.settings["small"] * truth.size) & ~found
        whole = (size >= self.settings["large"] * truth.size) & found
        group = np.where(whole, _BROKEN, _OTHER)[thing]
        reach = math.ceil(self.settings["border"] * math.hypot(*truth.shape))
        wrong = (truth >= 0) & ~right
        for other in np.unique(prediction[wrong]):
            pixels = wrong & (prediction == other)
            group[pixels & _dilated(truth == other, reach)] = _BORDER
        group[missed[thing]] = _MISSED
        labels = kind >= 0
        return group, (kind[labels], size[labels], hits[labels])

    def _count_things(self, kind, size, hits, *, area):
        step = np.searchsorted(np.array(SIZE_EDGES) * area, size, side="right")
        for row, counts in enumerate((1, 2 * hits >= size, size, hits)):
            np.add.at(self._sizes[row], (kind, step), counts)

    def _relations(self):
        """Which classes keep apart and which are taken for one another, (n, n) bool each."""
        present = self._present.astype(np.float64)
        together = present.T @ present
        each = np.diag(together)
        expected = np.outer(each, each) / max(len(present), 1)
        apart = (expected >= max(self.settings["chance"], 1e-9)) & (
            together < self.settings["apart"] * expected
        )
        matrix = self._confusion[:, :-1]
        labeled = self._confusion.sum(axis=1)
        both = np.minimum(matrix, matrix.T)
        confused = both >= self.settings["mutual"] * np.minimum.outer(labeled, labeled)
        confused &= both > 0
        np.fill_diagonal(confused, False)
        return apart, confused

    def _grouped(self, truth, prediction, group, present, *, apart, confused):
        """The groups once all pictures are known; `group` as from `_local`.

        Args:
            truth, prediction, group: (m,).
            present: (m, num_classes), classes in the labels of the picture.
        """
        known = prediction < self.num_classes
        other = np.where(known, prediction, 0)
        strangers = np.count_nonzero(present & apart[other], axis=1) - apart[other, truth]
        absent = ~np.take_along_axis(present, other[:, None], axis=1)[:, 0]
        late = (group == _BROKEN) | (group == _OTHER)
        group = np.where(late & known & confused[truth, other], _CONFUSED, group)
        return np.where(known & absent & (strangers > 0), _MISMATCHED, group)

    def _pairs(self, confused):
        matrix = self._confusion[:, :-1]
        both = np.triu(matrix + matrix.T, 1)
        return [
            Pair(a, b, int(matrix[a, b]), int(matrix[b, a]), bool(confused[a, b]))
            for a, b in _most(both)
        ]


def _most(counts):
    """Indices of the cells of a matrix that are not 0, largest first."""
    return sorted(np.argwhere(counts).tolist(), key=lambda cell: -counts[tuple(cell)])


def connected_components(mask: np.ndarray) -> np.ndarray:
    """Number of the connected part, of equal values among 8 neighbours, of each pixel.

    Args:
        mask: (height, width) integers.

    Returns:
        (height, width) int64, from 0, in no particular order.
    """
    # Runs of equal pixels in a row are joined to those that they touch in the next row.
    starts = np.ones(mask.shape, bool)
    starts[:, 1:] = mask[:, 1:] != mask[:, :-1]
    run = np.cumsum(starts).reshape(mask.shape) - 1
    width = mask.shape[1]
    touching = []
    for shift in (-1, 0, 1):
        above = (slice(None, -1), slice(max(0, -shift), width - max(0, shift)))
        below = (slice(1, None), slice(max(0, shift), width - max(0, -shift)))
        same = mask[above] == mask[below]
        touching.append(run[above][same] * (int(run[-1, -1]) + 1) + run[below][same])
    # Neighbours along a row repeat one another.
    edges = np.unique(np.concatenate(touching))
    first, second = np.divmod(edges, int(run[-1, -1]) + 1)
    root = np.arange(int(run[-1, -1]) + 1)
    while len(first):
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while (root[root] != root).any():
            root = root[root]
        first, second = root[first], root[second]
        first, second = first[first != second], second[first != second]
    return np.unique(root, return_inverse=True)[1].reshape(-1)[run]


def _dilated(mask, reach):
    """Whether True is within `reach` rows and columns, (height, width) bool."""
    for _ in range(2):
        count = np.cumsum(np.pad(mask, ((reach + 1, reach), (0, 0))), axis=0, dtype=np.int32)
        mask = (count[2 * reach + 1 :] > count[: -(2 * reach + 1)]).T
    return mask
