"""What happens around the steps of a training: guard, state, judgement, log and bar."""

import math
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import keras

from keras_psp.files import writing
from keras_psp.training.checkpoints import Checkpoints, NotFiniteError
from keras_psp.training.clock import Clock, _numbers


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
