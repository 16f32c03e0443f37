"""TODO."""

import contextlib
import math
import os
import tempfile
from typing import Any

import keras
import numpy as np

from keras_psp.files import writing, written_aside
from keras_psp.training.clock import Clock, _numbers
from keras_psp.training.folder import RunFolder
from keras_psp.training.log import Table


class Judge(keras.callbacks.Callback):
    """Evaluates the validation split, and keeps the best and the last network.

    Args:
        folder: of the run.
        log: log.csv.
        metric: the model's `MeanIoU`.
        validation: dataset of images and masks, and its steps; None for no validation.
        clock: see `Clock`.
        every: epochs between validations; unless 0, the last epoch always is judged.
        after: called with the number of epochs and the row of log.csv when it was written.
    """

    def __init__(
        self, folder: RunFolder, log: Table, metric, validation, clock: Clock, every, after
    ):
        super().__init__()
        self._folder = folder
        self._log = log
        self._metric = metric
        self._validation = validation
        self._clock = clock
        self._every = every
        self._after = after

    def best(self) -> float:
        """Best mean IoU so far; NaN before the first."""
        found = [value for value in self._log.column("val_mean_iou") if math.isfinite(value)]
        return max(found, default=math.nan)

    def due(self, epochs: int) -> bool:
        """Whether there is a validation after so many epochs."""
        return bool(self._every) and epochs % self._every == 0

    def judged(self, epochs: int) -> bool:
        """Whether log.csv has the row of so many epochs."""
        return epochs in self._log.column("epoch")

    def on_epoch_end(self, epoch, logs=None):
        self.judge(epoch + 1, _numbers(logs))

    def judge(self, epochs: int, logs: dict[str, float]) -> None:
        """Evaluate after so many epochs, log, and keep the network if it is the best."""
        clock = self._clock
        step = epochs * clock.steps_per_epoch
        row: dict[str, Any] = {
            "epoch": epochs,
            "step": step,
            "loss": logs.get("loss"),
            "mean_iou": logs.get("mean_iou"),
            "learning_rate": clock.rate_of_step(step),
        }
        row |= clock.speed()
        last = epochs == clock.epochs
        if self._validation is not None and (last or self.due(epochs)):
            with averaged(self.model):
                batches, steps = self._validation
                found = self.model.evaluate(batches, steps=steps, verbose=0, return_dict=True)
                row |= {
                    "val_loss": float(found["loss"]),
                    "val_mean_iou": float(np.nanmean(self._metric.per_class_iou())),
                    "val_pixel_accuracy": self._metric.pixel_accuracy(),
                }
                # "Not at most" holds for the first, too, when there is no best yet.
                if not row["val_mean_iou"] <= self.best():
                    self._save("best.keras")
                self._save("last.keras")
                self._log.add(row)
                self._after(epochs, row)
            return
        if last:
            with averaged(self.model):
                self._save("last.keras")
        self._log.add(row)
        self._after(epochs, row)

    def _save(self, name):
        if self._folder.writes:
            path = self._folder / name
            with writing(path), written_aside(path) as draft:
                self.model.save(draft)
        elif keras.backend.backend() == "jax":
            # All processes have to take part in reading what lies on all their devices.
            with tempfile.TemporaryDirectory() as nowhere:
                self.model.save(os.path.join(nowhere, name))


@contextlib.contextmanager
def averaged(model):
    """The moving average in place of the weights, where the optimizer keeps one."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    # Not keras.callbacks.SwapEMAWeights, which on TensorFlow adds and subtracts the two, so
    # that the weights come back rounded.
    weights = [
        keras.ops.convert_to_numpy(variable).copy() for variable in model.trainable_variables
    ]
    for variable, average in zip(
        model.trainable_variables, optimizer._model_variables_moving_average, strict=True
    ):
        # A copy: on JAX the two would be one array, which a step then gives away.
        variable.assign(keras.ops.convert_to_numpy(average).copy())
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            variable.assign(value)
