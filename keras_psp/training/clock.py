"""TODO."""

import math
import time
from typing import Any

import keras


class Clock(keras.callbacks.Callback):
    """Where the training is; the first callback, so that the others can ask it.

    Args:
        steps_per_epoch, epochs: of the whole training.
        batch_size: images a step.
        learning_rate: of a step, the schedule.

    Attributes:
        epoch: number of the running epoch, from 0.
        step_in_epoch: steps made in it.
        loss: of the last step; mean_iou: since the epoch began.
    """

    def __init__(self, *, steps_per_epoch: int, epochs: int, batch_size: int, learning_rate):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs
        self.batch_size = batch_size
        self._rate_of = learning_rate
        self.epoch = self.step_in_epoch = 0
        self.loss = self.mean_iou = math.nan
        self.total = 0.0
        self.seconds_per_step = math.nan
        self._resumed = False
        self._last = 0.0

    @property
    def step(self) -> int:
        """Steps made in all."""
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return self.rate_of_step(self.step)

    def rate_of_step(self, step: int) -> float:
        """Learning rate of a step, numbered from 1."""
        return float(keras.ops.convert_to_numpy(self._rate_of(max(step - 1, 0))))

    @property
    def images_per_second(self) -> float:
        """Of the last steps, waiting for the input included."""
        return self.batch_size / self.seconds_per_step

    def speed(self) -> dict[str, float]:
        """For a row of a table; empty while it is unknown."""
        known = math.isfinite(self.seconds_per_step)
        return {"images_per_second": round(self.images_per_second, 3)} if known else {}

    def position(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"epoch": self.epoch, "step_in_epoch": self.step_in_epoch, "total": self.total}

    def resume(self, position: dict[str, Any]) -> None:
        """Go on from a checkpoint's position."""
        self.epoch, self.step_in_epoch = position["epoch"], position["step_in_epoch"]
        self.total = position["total"]
        self._resumed = True

    def on_epoch_begin(self, epoch, logs=None):
        if not self._resumed:
            self.epoch, self.step_in_epoch, self.total = epoch, 0, 0.0
        self._resumed = False
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.step_in_epoch += 1
        # Keras gives the mean of the epoch so far.
        total = float(logs["loss"]) * self.step_in_epoch
        self.loss, self.total = total - self.total, total
        self.mean_iou = float(logs.get("mean_iou", math.nan))
        now = time.perf_counter()
        took, self._last = now - self._last, now
        # The first step is mostly compilation.
        if batch > 0:
            old = self.seconds_per_step
            self.seconds_per_step = took if math.isnan(old) else 0.9 * old + 0.1 * took


def _numbers(logs):
    return {name: float(value) for name, value in (logs or {}).items()}
