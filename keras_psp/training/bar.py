"""The progress bar of a training."""

import math
from typing import Any

import keras

from keras_psp.progress import Bar
from keras_psp.training.progress import TrainingProgress


class ProgressBar(keras.callbacks.Callback):
    """Shows loss, mean IoU, learning rate, speed and time left on stderr.

    It is a context manager, so that one bar serves several calls of `fit`. A log gets a line
    every 30 seconds and after each epoch.

    Args:
        progress: The training's progress.
        shown: False prints nothing.
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
        """Shows the state after a step."""
        progress = self._progress
        note = (
            f"loss {progress.loss:.4f}, mean IoU {progress.mean_iou:.2%}, "
            f"rate {progress.learning_rate(progress.step):.2e}"
        )
        if not math.isnan(progress.seconds_per_step):
            note += f", {progress.images_per_second:.1f} images/s"
        self._bar.update(progress.step, note, title=self._epoch(progress.epoch + 1))

    def print_epoch(self, epochs: int, row: dict[str, Any]) -> None:
        """Prints the metrics after a number of epochs.

        Args:
            epochs: Number of finished epochs.
            row: Row of log.csv.
        """
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
