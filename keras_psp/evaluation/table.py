"""The usual measures of a `MeanIoU` as a table to read."""

from collections.abc import Sequence

import numpy as np
import rich.console
import rich.table

from keras_psp.metrics import MeanIoU


def class_table(metric: MeanIoU, class_names: Sequence[str]) -> rich.table.Table:
    """IoU, accuracy and share of the labelled pixels of every class.

    Args:
        metric: a `keras_psp.MeanIoU` that has seen its data.
        class_names: one name per class.

    Returns:
        A `rich.table.Table`; "-" stands where a class does not occur.
    """
    if len(class_names) != metric.num_classes:
        raise ValueError(
            f"{len(class_names)} class_names for {metric.num_classes} classes; give one each."
        )
    counts = metric.confusion_matrix().sum(axis=1)
    table = rich.table.Table(title="per class", title_justify="left")
    table.add_column("class")
    for column in ("IoU", "accuracy", "pixels"):
        table.add_column(column, justify="right")
    columns = (metric.per_class_iou(), metric.per_class_accuracy(), counts / max(counts.sum(), 1))
    for name, *values in zip(class_names, *columns, strict=True):
        table.add_row(
            rich.text.Text(name),  # a name is no markup
            *("-" if np.isnan(value) else f"{100 * value:.1f} %" for value in values),
        )
    return table


def report(
    metric: MeanIoU, class_names: Sequence[str], *, console: rich.console.Console | None = None
) -> None:
    """Print the per-class table and the means, to stdout unless a console is given."""
    console = console or rich.console.Console(highlight=False)
    console.print(class_table(metric, class_names))
    console.print(
        f"mean IoU {100 * float(metric.result()):.2f} %   "
        f"pixel accuracy {100 * metric.pixel_accuracy():.2f} %   "
        f"class accuracy {100 * metric.class_accuracy():.2f} %"
    )
