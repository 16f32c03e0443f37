"""Callbacks that stop a training and write its checkpoints."""

import math
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import keras

from keras_psp.files import writing
from keras_psp.training.checkpoints import Checkpoints, NotFiniteError
from keras_psp.training.progress import TrainingProgress


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises FloatingPointError if a loss is NaN or infinite, naming the step and its files.

    `files` returns the names of a batch's examples, given its epoch and its step in the epoch;
    `last_checkpoint` returns a sentence about the last checkpoint.
    """

    def __init__(
        self,
        progress: TrainingProgress,
        files: Callable[[int, int], list[str]],
        last_checkpoint: Callable[[], str],
    ):
        super().__init__()
        self._progress = progress
        self._files = files
        self._last_checkpoint = last_checkpoint

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        progress = self._progress
        if math.isfinite(progress.loss):
            return
        names = self._files(progress.epoch, progress.step_in_epoch - 1)
        raise FloatingPointError(
            f"the loss of step {progress.step} (step {progress.step_in_epoch} of epoch "
            f"{progress.epoch + 1}) is not finite; its batch was {', '.join(names)}. Either "
            "training diverged (lower learning_rate, or add warmup_steps, in a new run) or one "
            f"of these files is damaged. {self._last_checkpoint()}"
        )


class Stopped(KeyboardInterrupt):
    """Raised if training was stopped by a signal, once a checkpoint is written."""


class Signals:
    """Records the first Ctrl-C or SIGTERM within the block; the second stops at once."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.received = False
        # Only the main thread may set handlers.
        self._enabled = enabled and threading.current_thread() is threading.main_thread()
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        if self._enabled:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        self.__exit__()
        print("stopping after this step; a second signal stops at once", file=sys.stderr)


class CheckpointCallback(keras.callbacks.Callback):
    """Writes checkpoints, and restores the metrics of an epoch that was interrupted.

    A checkpoint is written every `every` steps, after an epoch if `is_due(epochs)`, at the end,
    and when a signal to stop was received. With `keeps_arrays`, there is one after every epoch,
    and `arrays` are the values of the last one.
    """

    def __init__(
        self,
        progress: TrainingProgress,
        checkpoints: Checkpoints,
        *,
        every: int,
        is_due: Callable[[int], bool],
        signals: Signals,
    ):
        super().__init__()
        self.keeps_arrays = False
        self.arrays: Any = None
        self._progress = progress
        self._checkpoints = checkpoints
        self._every = every
        self._is_due = is_due
        self._resumed = progress.step_in_epoch > 0
        self._signals = signals
        self._saved_step = progress.step

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._resumed:  # Keras has just reset the metrics
            self._resumed = False
            _ = self.model  # on JAX, updates the variables
            self._checkpoints.restore_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        progress = self._progress
        if progress.step_in_epoch == progress.steps_per_epoch:
            return  # on_epoch_end follows
        stopping = self._signals.received  # read once: it may change during the save
        if stopping or progress.step % self._every == 0:
            self._save(progress.position())
        if stopping:
            raise Stopped(f"stopped after step {progress.step}; the same command resumes there")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._progress.is_within_epoch:
            self._save(self._progress.position())
            return
        # Before the validation, which may be long, but not after each of many short epochs.
        stopping = self._signals.received
        last = epoch + 1 == self._progress.epochs
        late = self._progress.step - self._saved_step >= self._every
        if stopping or last or late or self.keeps_arrays or self._is_due(epoch + 1):
            finished = {name: float(value) for name, value in (logs or {}).items()}
            self._save({"epoch": epoch + 1, "step_in_epoch": 0, "total": 0.0, "finished": finished})
        if stopping:
            raise Stopped(f"stopped after epoch {epoch + 1}; the same command resumes there")

    def _save(self, position):
        step = self._progress.step
        _ = self.model  # on JAX, updates the variables
        try:
            with writing(self._checkpoints.path(step)):
                arrays = self._checkpoints.save(step, position)
        except NotFiniteError as error:
            raise FloatingPointError(
                f"{error}: training diverged; lower learning_rate, or add warmup_steps, in a new "
                "run. The last good checkpoint is kept."
            ) from error
        self.arrays = arrays if self.keeps_arrays else None
        self._saved_step = step
