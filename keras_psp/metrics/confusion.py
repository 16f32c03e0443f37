"""Confusion matrices in NumPy: pixel counts, rows are labels and columns are predictions.

A matrix of n classes has n columns, or n + 1 where the last one counts predictions that are
not one of the classes. These count as errors of their label.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def confusion_matrix(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    *,
    ignore_class: int | None = None,
) -> np.ndarray:
    """Counts the pixels of each pair of label and prediction, which are integers of one shape.

    Returns int64 (num_classes, num_classes + 1). Labels outside 0..num_classes - 1 and
    `ignore_class` are not counted.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(
            f"predictions have shape {predictions.shape} but labels {labels.shape}; give one "
            "prediction per label."
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} have dtype {values.dtype}; they must be integers.")
    counted = (labels >= 0) & (labels < num_classes)
    if ignore_class is not None:
        counted &= labels != ignore_class
    rows, columns = labels[counted].astype(np.int64), predictions[counted].astype(np.int64)
    columns = np.where((columns >= 0) & (columns < num_classes), columns, num_classes)
    cells = num_classes * (num_classes + 1)
    counts = np.bincount(rows * (num_classes + 1) + columns, minlength=cells)
    return counts.reshape(num_classes, num_classes + 1)


def nonzero_cells(confusion: np.ndarray) -> np.ndarray:
    """(n, 3) int64: row, column and count of each cell that isn't 0; `add_cells` restores them."""
    rows, columns = np.nonzero(confusion)
    return np.stack([rows, columns, confusion[rows, columns]], axis=1).astype(np.int64)


def add_cells(confusion: np.ndarray, cells: Sequence[int] | np.ndarray) -> None:
    """Adds cells to a matrix in place: (n, 3) as of `nonzero_cells`, or the same values flat."""
    rows, columns, counts = np.reshape(cells, (-1, 3)).astype(np.int64).T
    np.add.at(confusion, (rows, columns), counts)


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """(num_classes,) float64; NaN for a class absent from both labels and predictions."""
    intersection = np.diag(confusion)
    return ratio(intersection, _predicted(confusion) + confusion.sum(axis=1) - intersection)


def per_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """(num_classes,) float64 recall; NaN for a class absent from the labels."""
    return ratio(np.diag(confusion), confusion.sum(axis=1))


def per_class_precision(confusion: np.ndarray) -> np.ndarray:
    """(num_classes,) float64; NaN for a class that is never predicted."""
    return ratio(np.diag(confusion), _predicted(confusion))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Fraction of the counted pixels that are correct; NaN if there are none."""
    return float(ratio(np.trace(confusion), confusion.sum()))


def mean_of_present(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    present = np.asarray(values)[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Elementwise quotient in float64; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, "float64"), np.asarray(denominator, "float64")
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def _predicted(confusion):
    """Pixels predicted as each class."""
    return confusion.sum(axis=0)[: len(confusion)]
