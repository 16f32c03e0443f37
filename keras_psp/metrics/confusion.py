"""What a confusion matrix says: counts of pixels, row the label, column the prediction.

A matrix of `n` classes has n columns, or n + 1: the last one then counts predictions that
are none of the classes, which are errors of their label.
"""

import numpy as np


def confusion_matrix(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    *,
    ignore_class: int | None = None,
) -> np.ndarray:
    """Count the pixels of every pair of label and prediction.

    Args:
        labels: integers of any shape; pixels with none of the classes aren't counted.
        predictions: integers of the labels' shape.
        num_classes: number of classes.
        ignore_class: label whose pixels aren't counted either, or None.

    Returns:
        (num_classes, num_classes + 1) int64; the last column has the predictions that are
        none of the classes.

    Raises:
        ValueError: the shapes differ, or values are no integers.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(
            f"predictions have shape {predictions.shape} and labels {labels.shape}; give one "
            "prediction per label."
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} have dtype {values.dtype}; give integers.")
    counted = (labels >= 0) & (labels < num_classes)
    if ignore_class is not None:
        counted &= labels != ignore_class
    rows, columns = labels[counted].astype(np.int64), predictions[counted].astype(np.int64)
    columns = np.where((columns >= 0) & (columns < num_classes), columns, num_classes)
    cells = num_classes * (num_classes + 1)
    counts = np.bincount(rows * (num_classes + 1) + columns, minlength=cells)
    return counts.reshape(num_classes, num_classes + 1)


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """(num_classes,) float64; NaN for a class in neither labels nor predictions."""
    intersection = np.diag(confusion)
    return ratio(intersection, _predicted(confusion) + confusion.sum(axis=1) - intersection)


def per_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """(num_classes,) float64 recall; NaN for a class that is in no label."""
    return ratio(np.diag(confusion), confusion.sum(axis=1))


def per_class_precision(confusion: np.ndarray) -> np.ndarray:
    """(num_classes,) float64; NaN for a class that was never predicted."""
    return ratio(np.diag(confusion), _predicted(confusion))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the counted pixels that are right; NaN where none was counted."""
    return float(ratio(np.trace(confusion), confusion.sum()))


def mean_of_present(values: np.ndarray) -> float:
    """Mean of the values that aren't NaN; NaN where there is none."""
    present = np.asarray(values)[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def ratio(numerator, denominator) -> np.ndarray:
    """Quotient in float64; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, "float64"), np.asarray(denominator, "float64")
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def _predicted(confusion):
    """Pixels that were predicted as each class."""
    return confusion.sum(axis=0)[: len(confusion)]
