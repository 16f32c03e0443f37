"""The usual measures of a `MeanIoU` as a table to read."""

from collections.abc import Sequence

import rich.console
import rich.table

from keras_psp.evaluation.measures import Measures
from keras_psp.metrics import MeanIoU


def class_table(metric: MeanIoU, class_names: Sequence[str]) -> rich.table.Table:
    """IoU, accuracy, precision and share of the labelled pixels of every class.

    Args:
        metric: a `keras_psp.MeanIoU` that has seen its data.
        class_names: one name per class.

    Returns:
        A `rich.table.Table`; "-" stands where a measure is not defined.
    """
    return _measures(metric, class_names).table()


def report(
    metric: MeanIoU, class_names: Sequence[str], *, console: rich.console.Console | None = None
) -> None:
    """Print the per-class table and the means, to stdout unless a console is given."""
    _measures(metric, class_names).print(console=console)


def _measures(metric, class_names):
    return Measures(metric.confusion_matrix(others=True), class_names)
