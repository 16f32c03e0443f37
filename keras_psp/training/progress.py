"""The progress of a training, and its progress bar."""

import math
import time
from typing import Any

import keras

from keras_psp.progress import Bar


class TrainingProgress(keras.callbacks.Callback):
    """Counts epochs and steps, and measures the loss of each step and the speed.

    It must be the first callback, since the others read its attributes: the index of the
    current `epoch`, the number of finished steps `step_in_epoch`, the `loss` of the last step,
    the `mean_iou` over the steps of this epoch so far, and the moving average of
    `seconds_per_step`, including the wait for data (NaN at first).
    """

    def __init__(
        self,
        *,
        steps_per_epoch: int,
        epochs: int,
        batch_size: int,
        learning_rate: keras.optimizers.schedules.LearningRateSchedule,
    ):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs
        self._batch_size = batch_size
        self._schedule = learning_rate
        self.epoch = self.step_in_epoch = 0
        self.loss = self.mean_iou = self.seconds_per_step = math.nan
        self._loss_sum = 0.0
        self._resumed = False
        self._last_time = 0.0

    @property
    def step(self) -> int:
        """Number of finished steps of the whole training."""
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    @property
    def is_within_epoch(self) -> bool:
        """Whether an epoch is incomplete, also at its end if a callback stopped the training."""
        return bool(self.step_in_epoch % self.steps_per_epoch)

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 1."""
        return float(keras.ops.convert_to_numpy(self._schedule(max(step - 1, 0))))

    def row(self) -> dict[str, float]:
        """Returns the columns on the last step for log.csv and steps.csv."""
        row = {"step": self.step, "learning_rate": self.learning_rate(self.step)}
        if math.isfinite(self.seconds_per_step):
            row["images_per_second"] = round(self._batch_size / self.seconds_per_step, 3)
        return row

    def position(self) -> dict[str, Any]:
        """Returns what a checkpoint must hold for `resume`."""
        return {"epoch": self.epoch, "step_in_epoch": self.step_in_epoch, "total": self._loss_sum}

    def resume(self, position: dict[str, Any]) -> None:
        """Continues from the position in a checkpoint."""
        self.epoch, self.step_in_epoch = position["epoch"], position["step_in_epoch"]
        self._loss_sum = position["total"]
        self._resumed = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._resumed:
            self.epoch, self.step_in_epoch, self._loss_sum = epoch, 0, 0.0
        self._resumed = False
        self._last_time = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        self.step_in_epoch += 1
        # Keras reports the mean of the epoch so far.
        loss_sum = float(logs["loss"]) * self.step_in_epoch
        self.loss, self._loss_sum = loss_sum - self._loss_sum, loss_sum
        self.mean_iou = float(logs.get("mean_iou", math.nan))
        now = time.perf_counter()
        seconds, self._last_time = now - self._last_time, now
        if batch > 0:  # the first step is mostly compilation
            mean = self.seconds_per_step
            self.seconds_per_step = seconds if math.isnan(mean) else 0.9 * mean + 0.1 * seconds


class ProgressBar(keras.callbacks.Callback):
    """Shows loss, mean IoU, learning rate, speed and time left on stderr.

    It is a context manager, so that several calls of `fit` can share a bar. A log gets a line
    every 30 seconds and after each epoch instead.
    """

    def __init__(self, progress: TrainingProgress, *, shown: bool = True):
        super().__init__()
        self._progress = progress
        steps = progress.epochs * progress.steps_per_epoch
        self._bar = Bar("starting", steps, completed=progress.step, shown=shown)

    def __enter__(self) -> "ProgressBar":
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        progress, row = self._progress, self._progress.row()
        note = f"loss {progress.loss:.4f}, mean IoU {progress.mean_iou:.2%}"
        note += f", rate {row['learning_rate']:.2e}"
        if "images_per_second" in row:
            note += f", {row['images_per_second']:.1f} images/s"
        self._bar.update(progress.step, note, title=self._epoch(progress.epoch + 1))

    def print_epoch(self, epochs: int, row: dict[str, Any]) -> None:
        """Prints the metrics after a number of epochs, given their row of log.csv."""
        parts = [self._epoch(epochs)]
        for name, title, format in (
            ("loss", "loss", "{:.4f}"),
            ("mean_iou", "mean IoU", "{:.2%}"),
            ("val_mean_iou", "validation: mean IoU", "{:.2%}"),
            ("val_pixel_accuracy", "pixel accuracy", "{:.2%}"),
        ):
            if row.get(name) is not None:
                parts.append(f"{title} {format.format(row[name])}")
        self._bar.print(", ".join(parts))

    def _epoch(self, number):
        return f"epoch {number}/{self._progress.epochs}"
