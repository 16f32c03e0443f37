"""What happens around the steps of a training: guard, state, judgement, log and bar."""

import contextlib
import datetime
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_psp.console import Lines, bar_console
from keras_psp.files import writing, written_aside
from keras_psp.training.checkpoints import Checkpoints, NotFiniteError
from keras_psp.training.folder import RunFolder, Table

EPOCH_COLUMNS = (
    "epoch",
    "step",
    "loss",
    "mean_iou",
    "learning_rate",
    "images_per_second",
    "val_loss",
    "val_mean_iou",
    "val_pixel_accuracy",
)
STEP_COLUMNS = ("step", "epoch", "loss", "mean_iou", "learning_rate", "images_per_second")


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


class Guard(keras.callbacks.Callback):
    """Stops at the first loss that is no number, and names the step and its files.

    Args:
        clock: see `Clock`.
        files: (epoch, step in the epoch) -> names of the examples of that batch.
        last_good: () -> what there is to go back to.
    """

    def __init__(self, clock: Clock, files: Callable[[int, int], list[str]], last_good):
        super().__init__()
        self._clock = clock
        self._files = files
        self._last_good = last_good

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(self._clock.loss):
            raise FloatingPointError(self.sentence())

    def sentence(self) -> str:
        """What happened and what to do."""
        clock = self._clock
        names = self._files(clock.epoch, clock.step_in_epoch - 1)
        return (
            f"the loss of step {clock.step} (step {clock.step_in_epoch} of epoch "
            f"{clock.epoch + 1}) is not finite; its batch was {', '.join(names)}. Either "
            "training diverged (lower learning_rate, or add warmup_steps, in a new run) or one "
            f"of these is broken. {self._last_good()}"
        )


class Stopped(KeyboardInterrupt):
    """The user or the machine asked to stop, and a checkpoint was written."""


class Signals:
    """Notes the first Ctrl-C or SIGTERM instead of dying of it; the second kills as ever.

    Attributes:
        came: whether one came.
    """

    _NAMES = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.came = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in self._NAMES}
        return self

    def _note(self, number, frame):
        self.came = True
        self._restore()
        print("stopping after this step; once more stops at once", file=sys.stderr)

    def _restore(self):
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._before = {}

    def __exit__(self, *error):
        self._restore()


class KeepState(keras.callbacks.Callback):
    """Writes checkpoints, and brings back the metrics of an epoch that was cut short.

    Args:
        clock: see `Clock`.
        checkpoints: where they go.
        every: steps between two within an epoch.
        due: number of epochs -> whether a checkpoint is due after them in any case.
        resumed: whether this run goes on from one.
        signals: where a wish to stop is noted; None where all machines would have to agree.

    Attributes:
        hold: keep what the last checkpoint holds in memory, in `held`.
    """

    hold = False
    held: Any = None

    def __init__(
        self,
        clock: Clock,
        checkpoints: Checkpoints,
        *,
        every: int,
        due: Callable[[int], bool],
        resumed: bool,
        signals: Signals | None = None,
    ):
        super().__init__()
        self._due = due
        self._saved = clock.step
        self._signals = signals
        self._clock = clock
        self._checkpoints = checkpoints
        self._every = every
        self._resumed = resumed

    def on_epoch_begin(self, epoch, logs=None):
        if self._resumed:  # Keras has just reset them
            self._resumed = False
            _ = self.model  # on JAX, brings the variables up to date
            self._checkpoints.restore_metrics()

    def on_train_batch_end(self, batch, logs=None):
        clock = self._clock
        # The last step of an epoch has its checkpoint at the epoch's end.
        within = clock.step_in_epoch < clock.steps_per_epoch
        stop = self._signals is not None and self._signals.came
        if within and (stop or clock.step % self._every == 0):
            self._save({})
        if within and stop:
            raise Stopped(f"stopped after step {clock.step}; the same command goes on from there")

    def on_epoch_end(self, epoch, logs=None):
        # Before the validation, which may be long. Not after each of many short epochs.
        stop = self._signals is not None and self._signals.came
        last = epoch + 1 == self._clock.epochs
        late = self._clock.step - self._saved >= self._every
        if stop or last or late or self.hold or self._due(epoch + 1):
            position = {"epoch": epoch + 1, "step_in_epoch": 0, "total": 0.0}
            self._save({**position, "finished": _numbers(logs)})
        if stop:
            raise Stopped(f"stopped after epoch {epoch + 1}; the same command goes on from there")

    def _save(self, extra):
        clock = self._clock
        _ = self.model  # on JAX, brings the variables up to date
        try:
            with writing(self._checkpoints.path(clock.step)):
                arrays = self._checkpoints.save(clock.step, {**clock.position(), **extra})
            self.held = arrays if self.hold else None
            self._saved = clock.step
        except NotFiniteError as error:
            raise FloatingPointError(
                f"{error}: training diverged; lower learning_rate, or add warmup_steps, in a new "
                "run. The last good checkpoint is kept."
            ) from error


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


class Record(keras.callbacks.Callback):
    """Writes a row a step, and what TensorBoard shows.

    Args:
        clock: see `Clock`.
        steps: steps.csv.
        board: a `TensorBoard`, or None.
    """

    def __init__(self, clock: Clock, steps: Table, board):
        super().__init__()
        self._clock = clock
        self._steps = steps
        self._board = board

    def on_train_batch_end(self, batch, logs=None):
        clock = self._clock
        row = {
            "step": clock.step,
            "epoch": clock.epoch + 1,
            "loss": clock.loss,
            "mean_iou": clock.mean_iou,
            "learning_rate": clock.learning_rate,
        }
        row |= clock.speed()
        self._steps.add(row)
        if self._board is not None:
            names = ("loss", "mean_iou", "learning_rate", "images_per_second")
            self._board.scalars(clock.step, "train", {n: row[n] for n in names if n in row})


class TensorBoard:
    """Scalars and pictures for TensorBoard."""

    def __init__(self, folder):
        import tensorflow as tf

        self._tf = tf
        self._folder = folder
        self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, step: int, group: str, values: dict[str, float]) -> None:
        """One point on each curve."""
        with writing(self._folder), self._writer.as_default():
            for name, value in values.items():
                if value is not None:
                    self._tf.summary.scalar(f"{group}/{name}", value, step=step)

    def picture(self, step: int, name: str, path) -> None:
        """A PNG file."""
        with writing(self._folder), self._writer.as_default():
            image = self._tf.io.decode_png(self._tf.io.read_file(str(path)), channels=3)
            self._tf.summary.image(name, image[None], step=step)
            self._writer.flush()

    @classmethod
    def opened(cls, folder):
        """A writer, or None with a line on stderr where tensorboard isn't installed."""
        try:
            import tensorboard  # noqa: F401

            return cls(folder)
        except ImportError as error:
            print(f"no TensorBoard files ({error}): pip install tensorboard", file=sys.stderr)
            return None


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


def _numbers(logs):
    return {name: float(value) for name, value in (logs or {}).items()}
