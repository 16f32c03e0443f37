"""The whole state of a training on disk, so that a killed one goes on where it was."""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.files import UNREADABLE_NPZ, remove_drafts, written_aside

_KEPT = 2  # the newest and, should that not open, the one before
_NAME = re.compile(r"step-(\d+)\.npz")
_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that can't be read or is of another network."""


class NotFiniteError(FloatingPointError):
    """Weights that are NaN or infinite, which are never written."""


class Checkpoints:
    """Numbered checkpoints in a folder.

    One holds every variable that a step reads or writes: weights, BatchNorm's statistics,
    the counters of random generators (dropout), the optimizer's momenta and step, and the
    counts of the metrics since the epoch began.

    A file is written aside, brought to the disk and moved into place; the one before is
    kept until then and one step longer. So a kill or a full disk at any moment leaves at
    least one that opens.

    Args:
        folder: made if it doesn't exist.
        model: the compiled model.
        metrics: whose counts belong to an epoch, the loss' among them.
        writes: whether this process writes; on several machines only one does.
    """

    def __init__(
        self,
        folder: str | Path,
        model: keras.Model,
        metrics: Sequence[keras.metrics.Metric],
        *,
        writes: bool = True,
    ):
        self.folder = Path(folder)
        self.writes = writes
        self._model = model
        # Not `model.metrics_variables`: Keras finds some only at the first step.
        self._counts = [variable for metric in metrics for variable in metric.variables]
        self._waiting: list[np.ndarray] = []
        if writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_drafts(self.folder, lambda name: name.startswith("step-"))

    def steps(self) -> list[int]:
        """Numbers of the checkpoints there are, the newest first."""
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step:08d}.npz"

    def save(self, step: int, position: dict[str, Any]) -> list[np.ndarray]:
        """Write the checkpoint of a step, and remove all but the newest two.

        Args:
            step: steps made so far.
            position: anything that JSON takes, which `restore` gives back.

        Returns:
            The values, for `put_back`.

        Raises:
            NotFiniteError: if a weight is NaN or infinite; nothing is written.
            OSError: as writing does; the older checkpoints stay.
        """
        arrays = self._arrays()  # on several machines all take part in reading the metrics
        weights = len(self._model.variables)
        for (path, _), array in zip(self._variables()[:weights], arrays, strict=False):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise NotFiniteError(f"{path} is no longer finite after step {step}")
        if not self.writes:
            return arrays
        meta = {
            "version": _VERSION,
            "step": step,
            "position": position,
            "paths": _paths(self._variables()),
        }
        text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        with written_aside(self.path(step)) as draft:
            np.savez(draft, meta=text, **{str(n): array for n, array in enumerate(arrays)})
        for old in self.steps()[_KEPT:]:
            os.remove(self.path(old))
        return arrays

    def put_back(self, arrays: list[np.ndarray]) -> None:
        """Bring weights and optimizer back to what `save` returned."""
        lasting = self._variables()[: len(arrays) - len(self._counts)]
        for (_, variable), array in zip(lasting, arrays, strict=False):
            _assign(variable, array)

    def restore(self) -> dict[str, Any] | None:
        """Bring the model to its newest checkpoint that opens.

        Returns:
            The `position` given to `save`, or None where there is no checkpoint. The counts
            of the metrics wait for `restore_metrics`, as `fit` resets them first.

        Raises:
            CheckpointError: where there are checkpoints but none opens, or they are of
                another network or optimizer.
        """
        faults = []
        for step in self.steps():
            path = self.path(step)
            try:
                meta, arrays = _read(path)
            except (OSError, *UNREADABLE_NPZ) as error:
                faults.append(f"{path.name}: {error or type(error).__name__}")
                print(f"{path} can't be read ({error}); trying the one before", file=sys.stderr)
                continue
            self._assign(meta, arrays, path)
            return meta["position"]
        if faults:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(faults)}); choose "
                "another --output, or remove them to start anew."
            )
        return None

    def restore_metrics(self) -> None:
        """Bring the metrics to the checkpoint that `restore` read."""
        for variable, array in zip(self._counts, self._waiting, strict=True):
            _assign(variable, array, first=self.writes)

    def _arrays(self):
        return [keras.ops.convert_to_numpy(variable) for _, variable in self._variables()]

    def _variables(self):
        """(path, variable) of all that a step changes: weights, optimizer, metrics."""
        return [
            *((f"model/{v.path}", v) for v in self._model.variables),
            *((f"optimizer/{v.path}", v) for v in self._model.optimizer.variables),
            *((f"metrics/{v.path}", v) for v in self._counts),
        ]

    def _assign(self, meta, arrays, path):
        named = self._variables()
        paths, saved = ([_unnumbered(p) for p in each] for each in (_paths(named), meta["paths"]))
        if saved != paths:
            new = sorted(set(paths) ^ set(saved)) or ["their order"]
            raise CheckpointError(
                f"{path} is of another network or optimizer ({new[0]} differs); choose another "
                "--output."
            )
        for (name, variable), array in zip(named, arrays, strict=True):
            if tuple(variable.shape) != array.shape:
                raise CheckpointError(
                    f"{path} is of another network: {name} has shape {array.shape}, here "
                    f"{tuple(variable.shape)}; choose another --output."
                )
        self.put_back(arrays)
        self._waiting = arrays[len(arrays) - len(self._counts) :]


def _paths(named):
    return [path for path, _ in named]


def _unnumbered(path):
    """Without the numbers that Keras gives to the second unnamed layer of a process."""
    return re.sub(r"_\d+(?=/|$)", "", path)


def _read(path):
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(bytes(file["meta"]))
        if meta.get("version") != _VERSION:
            raise ValueError(f"it has version {meta.get('version')}, this package reads {_VERSION}")
        return meta, [file[str(n)] for n in range(len(meta["paths"]))]


def _assign(variable, array, *, first=True):
    """Give a variable its value, on every device.

    Args:
        variable: a Keras variable.
        array: its value.
        first: whether this is the first of several machines.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        value = variable.value
        on_read = tf.VariableSynchronization.ON_READ
        if isinstance(value, tf.distribute.DistributedValues) and value.synchronization == on_read:
            # Reading it sums over all devices, so each gets an equal share, as the mean of
            # their own results is what a step tells. (Assigning would drop the remainder of
            # counts.)
            count = variable.value.distribute_strategy.num_replicas_in_sync
            whole = array.dtype.kind in "iu"
            share = array // count if whole else array / count
            for index, local in enumerate(value.values):
                remainder = array - share * count if whole and first and index == 0 else 0
                local.assign(share + remainder)
            return
    variable.assign(array)
