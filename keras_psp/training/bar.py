"""TODO."""

import datetime
import math
from typing import Any

import keras

from keras_psp.progress import Lines, bar_console
from keras_psp.training.clock import Clock


class Progress(keras.callbacks.Callback):
    """A bar on stderr with mean IoU, learning rate, images a second and time left.

    Where stderr is no terminal: a line every half minute and at the end of an epoch.

    Args:
        clock: see `Clock`.
    """

    def __init__(self, clock: Clock):
        super().__init__()
        self._clock = clock
        self._console = bar_console()
        self._lines = Lines(self._console)
        self._bar: Any = None

    def on_train_begin(self, logs=None):
        self._lines = Lines(self._console)
        if self._bar is not None or not self._console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
        )
        self._bar.start()
        clock = self._clock
        total = clock.epochs * clock.steps_per_epoch
        self._task = self._bar.add_task("", total=total, completed=clock.step, state="starting")

    def on_train_batch_end(self, batch, logs=None):
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self._clock.step,
                description=self._epoch(),
                state=self._state(),
            )
        else:
            self._lines.say(f"{self._epoch()}, step {self._clock.step}: {self._state()}")

    def judged(self, epochs: int, row: dict[str, Any]) -> None:
        """Say what a validation found, or that an epoch is over."""
        parts = [f"epoch {epochs}/{self._clock.epochs}"]
        for name, title, format in (
            ("loss", "loss", "{:.4f}"),
            ("mean_iou", "mean IoU", "{:.2%}"),
            ("val_mean_iou", "validation: mean IoU", "{:.2%}"),
            ("val_pixel_accuracy", "pixel accuracy", "{:.2%}"),
        ):
            if row.get(name) is not None:
                parts.append(f"{title} {format.format(row[name])}")
        self._lines.say(", ".join(parts), at_once=True)

    def close(self) -> None:
        """Take the bar away, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _epoch(self):
        return f"epoch {self._clock.epoch + 1}/{self._clock.epochs}"

    def _state(self):
        clock = self._clock
        text = (
            f"loss {clock.loss:.4f}, mean IoU {clock.mean_iou:.2%}, rate {clock.learning_rate:.2e}"
        )
        if math.isnan(clock.seconds_per_step):
            return text
        left = clock.epochs * clock.steps_per_epoch - clock.step
        seconds = datetime.timedelta(seconds=round(left * clock.seconds_per_step))
        return f"{text}, {clock.images_per_second:.1f} images/s, {seconds} left"
