"""The usual measures of a semantic segmentation, from one confusion matrix."""

import os
from collections.abc import Sequence

import numpy as np
import rich.console
import rich.table

from keras_psp.evaluation.figures import percent_table, show, write_csv, write_json
from keras_psp.metrics import confusion as matrix


class Measures:
    """Measures of everything that one confusion matrix has counted.

        measures = Measures(metric.confusion_matrix(others=True), source.class_names)
        measures.print()
        measures.to_json("results.json")

    The measures are those of Long et al., "Fully Convolutional Networks" (CVPR 2015),
    section 5. Two of them from parts of a data set are added with `+`: their counts are.

    Args:
        confusion: (num_classes, num_classes) or (num_classes, num_classes + 1) integer
            counts of pixels, row the label and column the prediction; the last of one
            column more are predictions that are no class, errors of their label.
        class_names: one name per class.
        absent_as_zero: how the two means over classes take a class in neither labels nor
            predictions (for `class_accuracy`: not in the labels). They leave it out, or,
            if set, count it as 0 as semseg's tool/test.py does, whose figures are smaller
            wherever a class is missing.

    Attributes:
        confusion: (num_classes, num_classes + 1) int64 counts.
        class_names: tuple of str.
        absent_as_zero: as given.

    Raises:
        ValueError: the matrix is none, or names are missing.
    """

    def __init__(
        self,
        confusion: np.ndarray,
        class_names: Sequence[str],
        *,
        absent_as_zero: bool = False,
    ):
        self.confusion = _checked(confusion)
        self.class_names = tuple(class_names)
        self.absent_as_zero = absent_as_zero
        if len(self.class_names) != len(self.confusion):
            raise ValueError(
                f"{len(self.class_names)} class_names for {len(self.confusion)} classes; "
                "give one each."
            )

    def __add__(self, other: "Measures") -> "Measures":
        if not isinstance(other, Measures):
            return NotImplemented
        for name in ("class_names", "absent_as_zero"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"{name} is {mine} on one side of + and {theirs} on the other; add "
                    "measures of the same classes and options only."
                )
        return Measures(
            self.confusion + other.confusion,
            self.class_names,
            absent_as_zero=self.absent_as_zero,
        )

    @property
    def iou(self) -> np.ndarray:
        """(num_classes,) float64; NaN for a class in neither labels nor predictions."""
        return matrix.per_class_iou(self.confusion)

    @property
    def accuracy(self) -> np.ndarray:
        """(num_classes,) float64 recall; NaN for a class that is in no label."""
        return matrix.per_class_accuracy(self.confusion)

    @property
    def precision(self) -> np.ndarray:
        """(num_classes,) float64; NaN for a class that was never predicted."""
        return matrix.per_class_precision(self.confusion)

    @property
    def share(self) -> np.ndarray:
        """(num_classes,) float64 shares of the labelled pixels; NaN where there are none."""
        return matrix.ratio(self.confusion.sum(axis=1), self.confusion.sum())

    @property
    def mean_iou(self) -> float:
        return self._mean(self.iou)

    @property
    def class_accuracy(self) -> float:
        """Mean over classes of `accuracy`."""
        return self._mean(self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that are right."""
        return matrix.pixel_accuracy(self.confusion)

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of `iou` with `share` as weights."""
        if not self.confusion.any():
            return float("nan")
        return float(np.nansum(self.share * self.iou))

    def _mean(self, values):
        if self.absent_as_zero and self.confusion.any():
            return float(np.nan_to_num(values).mean())
        return matrix.mean_of_present(values)

    def table(self) -> rich.table.Table:
        """The measures of every class; "-" stands where one is not defined."""
        return percent_table(
            "per class", ("class", "IoU", "accuracy", "precision", "pixels"), self._rows()
        )

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Print the table and the means, to stdout unless a console is given."""
        means = {
            "mean IoU": self.mean_iou,
            "pixel accuracy": self.pixel_accuracy,
            "class accuracy": self.class_accuracy,
            "frequency-weighted IoU": self.frequency_weighted_iou,
        }
        show([self.table()], means, console)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the measures of every class, a row each, in shares from 0 to 1."""
        write_csv(path, ("class", "iou", "accuracy", "precision", "share"), self._rows())

    def to_json(self, path: str | os.PathLike) -> None:
        """Write all measures, in shares from 0 to 1; null where one is not defined."""
        columns = ("class", "iou", "accuracy", "precision", "share")
        content = {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "class_accuracy": self.class_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "absent_as_zero": self.absent_as_zero,
            "classes": [dict(zip(columns, row, strict=True)) for row in self._rows()],
        }
        write_json(path, content)

    def _rows(self):
        columns = (self.iou, self.accuracy, self.precision, self.share)
        return list(zip(self.class_names, *(column.tolist() for column in columns), strict=True))


def _checked(confusion):
    counts = np.asarray(confusion)
    if counts.ndim != 2 or not counts.size or counts.shape[1] - len(counts) not in (0, 1):
        raise ValueError(
            f"confusion has shape {counts.shape}; it must be (num_classes, num_classes), or "
            "have one column more for predictions that are no class."
        )
    if not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(f"confusion has dtype {counts.dtype}; give integer counts of pixels.")
    if counts.min() < 0:
        raise ValueError(f"confusion has the count {counts.min()}; counts can't be negative.")
    others = len(counts) + 1 - counts.shape[1]
    return np.pad(counts.astype(np.int64), ((0, 0), (0, others)))
