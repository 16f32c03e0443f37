"""What happens after each epoch: validation, log, and the best and last network."""

import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.files import damage_in_zip, writing, written_aside
from keras_psp.metrics import MeanIoU
from keras_psp.training.folder import RunFolder
from keras_psp.training.log import Table
from keras_psp.training.progress import TrainingProgress

_REPLACED_BY = {
    "best.keras": "the network of the next validation, if there is one, takes its place",
    "last.keras": "it is saved again",
}


class Validation(keras.callbacks.Callback):
    """Evaluates the validation split, and saves the best and the last network.

    `data` is a dataset and its number of steps, or None for no validation. Validation runs after
    every `every` epochs and after the last one. Its results are added to the epoch's logs, for the
    callbacks that follow. `on_logged` is called with the number of epochs and their row of log.csv
    once the row is written.
    """

    def __init__(
        self,
        folder: RunFolder,
        log: Table,
        metric: MeanIoU,
        data: tuple[Any, int] | None,
        progress: TrainingProgress,
        *,
        every: int,
        on_logged: Callable[[int, dict[str, Any]], None],
    ):
        super().__init__()
        self._folder = folder
        self._log = log
        self._metric = metric
        self._data = data
        self._progress = progress
        self._every = every
        self._on_logged = on_logged
        self._is_saved = True  # whether last.keras holds the network after the last epoch
        self._damaged = self._damages()
        for name, reason in self._damaged.items():
            if folder.writes:
                what = f"{folder / name} is damaged ({reason})"
                print(f"{what}; {_REPLACED_BY[name]}.", file=sys.stderr)

    def _damages(self):
        """Returns why networks saved by earlier starts can't be opened, by file name."""
        expected = {
            "best.keras": math.isfinite(self.best_mean_iou),
            "last.keras": self._progress.epoch == self._progress.epochs,
        }
        damages = {}
        for name, is_expected in expected.items():
            path = self._folder / name
            reason = damage_in_zip(path) if path.exists() else "it is missing" * is_expected
            if reason:
                damages[name] = reason
        return damages

    @property
    def best_mean_iou(self) -> float:
        """Best mean IoU so far; NaN before the first validation."""
        values = self._log.column("val_mean_iou")
        return max((value for value in values if math.isfinite(value)), default=math.nan)

    def is_due(self, epochs: int) -> bool:
        """Returns whether there is a validation after a number of epochs."""
        return bool(self._every) and epochs % self._every == 0

    def is_logged(self, epochs: int) -> bool:
        """Returns whether log.csv has the row of a number of epochs."""
        return epochs in self._log.column("epoch")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._progress.is_within_epoch:
            self._is_saved = False
            return
        epochs, logs = epoch + 1, {} if logs is None else logs
        row: dict[str, Any] = {
            **self._progress.row(),
            "epoch": epochs,
            **{name: float(logs[name]) for name in ("loss", "mean_iou") if name in logs},
        }
        last = epochs == self._progress.epochs
        evaluates = self._data is not None and (last or self.is_due(epochs))
        with averaged_weights(self.model) if evaluates or last else contextlib.nullcontext():
            if evaluates:
                measures = self._evaluate()
                row |= measures
                logs.update(measures)
                # Also true for the first one, when the best is NaN.
                if not row["val_mean_iou"] <= self.best_mean_iou or "best.keras" in self._damaged:
                    self._save("best.keras")
            self._is_saved = evaluates or last
            if self._is_saved:
                self._save("last.keras")
            self._log.add(row)
            self._on_logged(epochs, row)

    def _evaluate(self):
        batches, steps = self._data
        metrics = self.model.evaluate(batches, steps=steps, verbose=0, return_dict=True)
        return {
            "val_loss": float(metrics["loss"]),
            "val_mean_iou": float(np.nanmean(self._metric.per_class_iou())),
            "val_pixel_accuracy": self._metric.pixel_accuracy(),
        }

    def save_last(self) -> None:
        """Saves the network at the end of a training if last.keras is damaged or an earlier one.

        It is an earlier one if a callback stopped the training before a validation.
        """
        if "last.keras" in self._damaged or not self._is_saved:
            self._save("last.keras")

    def _save(self, name):
        self._damaged.pop(name, None)
        path = self._folder / name
        if self._folder.writes:
            with writing(path), written_aside(path) as draft:
                self.model.save(draft)
        elif keras.backend.backend() == "jax":
            # All processes must take part in reading arrays that are on all their devices.
            with tempfile.TemporaryDirectory() as unused:
                self.model.save(Path(unused) / name)


def averaging_optimizer(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """Returns the model's optimizer, without its loss scale, if it keeps a moving average."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return optimizer if optimizer.use_ema else None


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Replaces the weights by their moving average, if the optimizer keeps one."""
    optimizer = averaging_optimizer(model)
    if optimizer is None:
        yield
        return
    # keras.callbacks.SwapEMAWeights adds and subtracts the two on TensorFlow, which rounds the
    # weights.
    variables = model.trainable_variables
    averages = optimizer._model_variables_moving_average
    # Copies: on JAX both variables would share an array, which the next step gives away.
    weights = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    for variable, average in zip(variables, averages, strict=True):
        variable.assign(keras.ops.convert_to_numpy(average).copy())
    try:
        yield
    finally:
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)
