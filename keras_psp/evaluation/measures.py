"""The usual measures of semantic segmentation, computed from one confusion matrix."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.console
import rich.table

from keras_psp.evaluation.checks import check_same_arguments
from keras_psp.evaluation.figures import percent_table, show, write_csv, write_json
from keras_psp.metrics import MeanIoU
from keras_psp.metrics.confusion import (
    mean_of_present,
    per_class_accuracy,
    per_class_iou,
    per_class_precision,
    pixel_accuracy,
    ratio,
)

_COLUMNS = ("class", "iou", "accuracy", "precision", "share")


class Measures:
    """IoU, accuracy and precision of each class, and their means.

    They follow Long et al., "Fully Convolutional Networks" (CVPR 2015), section 5. `+` adds the
    counts of two parts of a data set.

    Args:
        confusion: (num_classes, num_classes) or (num_classes, num_classes + 1) integer pixel
            counts; rows are labels, columns are predictions. The extra column counts predictions
            that are not one of the classes; they count as errors of their label.
        class_names: one name per class.
        absent_as_zero: whether a class that is absent from both labels and predictions (for
            `class_accuracy`: from the labels) counts as 0 in the means, as in semseg's
            tool/test.py. By default the means leave it out.

    Attributes:
        confusion: (num_classes, num_classes + 1) int64 counts.
        class_names: tuple of str.
        absent_as_zero: bool.

    Raises:
        ValueError: if the matrix is invalid or there is not one name per class.

    Example:
        measures = Measures(np.array([[4, 1], [2, 3]]), ["sky", "sea"])
        measures.mean_iou  # 0.536
        measures.print()
        measures.to_json("results.json")
    """

    def __init__(
        self, confusion: np.ndarray, class_names: Sequence[str], *, absent_as_zero: bool = False
    ):
        self.confusion = _checked(confusion)
        self.class_names = tuple(class_names)
        self.absent_as_zero = absent_as_zero
        if len(self.class_names) != len(self.confusion):
            raise ValueError(
                f"{len(self.class_names)} class_names for {len(self.confusion)} classes; "
                "give one per class."
            )

    def __add__(self, other: "Measures") -> "Measures":
        if not isinstance(other, Measures):
            return NotImplemented
        check_same_arguments(self._arguments(), other._arguments())
        return Measures(self.confusion + other.confusion, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        return {"class_names": self.class_names, "absent_as_zero": self.absent_as_zero}

    @property
    def iou(self) -> np.ndarray:
        """(num_classes,) float64; NaN for a class absent from both labels and predictions."""
        return per_class_iou(self.confusion)

    @property
    def accuracy(self) -> np.ndarray:
        """(num_classes,) float64 recall; NaN for a class absent from the labels."""
        return per_class_accuracy(self.confusion)

    @property
    def precision(self) -> np.ndarray:
        """(num_classes,) float64; NaN for a class that is never predicted."""
        return per_class_precision(self.confusion)

    @property
    def share(self) -> np.ndarray:
        """(num_classes,) float64 fractions of the labeled pixels; NaN if there are none."""
        return ratio(self.confusion.sum(axis=1), self.confusion.sum())

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes."""
        return self._mean(self.iou)

    @property
    def class_accuracy(self) -> float:
        """Mean of `accuracy` over the classes."""
        return self._mean(self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of the labeled pixels that are correct."""
        return pixel_accuracy(self.confusion)

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of `iou` weighted by `share`."""
        if not self.confusion.any():
            return float("nan")
        return float(np.nansum(self.share * self.iou))

    def means(self) -> dict[str, float]:
        """The four figures of the whole data set, by name."""
        return {
            "mean IoU": self.mean_iou,
            "pixel accuracy": self.pixel_accuracy,
            "class accuracy": self.class_accuracy,
            "frequency-weighted IoU": self.frequency_weighted_iou,
        }

    def _mean(self, values):
        if self.absent_as_zero and self.confusion.any():
            return float(np.nan_to_num(values).mean())
        return mean_of_present(values)

    def table(self) -> rich.table.Table:
        """The measures of each class; "-" where one is undefined."""
        columns = ("class", "IoU", "accuracy", "precision", "pixels")
        return percent_table("per class", columns, self._rows())

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Prints the table and the means, to stdout unless a console is given."""
        show(self.table(), self.means(), console)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Writes one row per class, as fractions from 0 to 1."""
        write_csv(path, _COLUMNS, self._rows())

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes all measures, as fractions from 0 to 1; null where one is undefined."""
        content = {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "class_accuracy": self.class_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "absent_as_zero": self.absent_as_zero,
            "classes": [dict(zip(_COLUMNS, row, strict=True)) for row in self._rows()],
        }
        write_json(path, content)

    def _rows(self):
        columns = (self.iou, self.accuracy, self.precision, self.share)
        return list(zip(self.class_names, *(column.tolist() for column in columns), strict=True))


def class_table(metric: MeanIoU, class_names: Sequence[str]) -> rich.table.Table:
    """The measures of each class from a `keras_psp.MeanIoU` that has seen its data.

    Args:
        metric: the metric, e.g. after `model.evaluate`.
        class_names: one name per class.
    """
    return Measures(metric.confusion_matrix(others=True), class_names).table()


def print_class_table(
    metric: MeanIoU, class_names: Sequence[str], *, console: rich.console.Console | None = None
) -> None:
    """Prints the `class_table` of a metric and its means, to stdout unless a console is given."""
    Measures(metric.confusion_matrix(others=True), class_names).print(console=console)


def _checked(confusion):
    counts = np.asarray(confusion)
    if counts.ndim != 2 or not counts.size or counts.shape[1] - len(counts) not in (0, 1):
        raise ValueError(
            f"confusion has shape {counts.shape}; it must be (num_classes, num_classes), or "
            "have one more column for predictions that are not one of the classes."
        )
    if not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(f"confusion has dtype {counts.dtype}; give integer pixel counts.")
    if counts.min() < 0:
        raise ValueError(f"confusion has the count {counts.min()}; counts can't be negative.")
    missing = len(counts) + 1 - counts.shape[1]
    return np.pad(counts.astype(np.int64), ((0, 0), (0, missing)))
