"""Plots the curves of a training run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_psp.files import written_aside


def training_curve(steps: Any, epochs: Any, *, path: str | Path) -> None:
    """Plots loss and mean IoU of training and validation, and the learning rate, by step.

    Args:
        steps: table whose method `column(name)` returns step, loss and learning_rate of each step.
        epochs: the same for step, mean_iou, val_loss and val_mean_iou of each epoch.
        path: file to write. An existing file is replaced atomically.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    loss, rate, iou = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 3))
    x = steps.column("step")
    values = steps.column("loss")
    loss.plot(x, values, color="0.8", linewidth=0.7, label="training, each step")
    loss.plot(x, smoothed(values), color="tab:blue", label="training, smoothed")
    _points(loss, epochs, "val_loss", "tab:orange", "validation")
    if math.isfinite(highest := highest_loss(values)):
        loss.set_ylim(0, highest)
    loss.set_ylabel("loss")
    loss.legend()
    rate.plot(x, steps.column("learning_rate"), color="tab:green")
    rate.set_ylabel("learning rate")
    _points(iou, epochs, "mean_iou", "tab:blue", "training, over the epoch")
    _points(iou, epochs, "val_mean_iou", "tab:orange", "validation")
    iou.set_ylabel("mean IoU")
    iou.set_xlabel("step")
    if iou.lines:
        iou.legend(loc="lower right")
    for axes in (loss, rate, iou):
        axes.grid(alpha=0.3)
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=110)


def _points(axes, table, name, color, label):
    pairs = zip(table.column("step"), table.column(name), strict=True)
    pairs = [(x, y) for x, y in pairs if math.isfinite(y)]
    if pairs:
        axes.plot(*zip(*pairs, strict=True), color=color, marker=".", label=label)


def highest_loss(losses: Sequence[float]) -> float:
    """Returns the upper end of the loss axis; very high first losses would flatten the rest."""
    finite = sorted(value for value in losses if math.isfinite(value))
    return max(1.1 * finite[int(0.995 * (len(finite) - 1))], 1e-6) if finite else math.inf


def smoothed(values: Sequence[float]) -> list[float]:
    """Returns an exponential moving average over about a fiftieth of the curve."""
    keep = 1 - 1 / max(1.0, len(values) / 50)
    smooth, mean = [], math.nan
    for value in values:
        if math.isfinite(value):
            mean = value if math.isnan(mean) else keep * mean + (1 - keep) * value
        smooth.append(mean)
    return smooth
