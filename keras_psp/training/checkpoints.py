"""Checkpoints of the whole state of a training, to resume it if the process is killed."""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.files import read_npz, remove_drafts, written_aside

_KEPT = 2  # the newest and, in case it can't be read, the one before
_NAME = re.compile(r"step-(\d+)\.npz")
_VERSION = 1


class CheckpointError(ValueError):
    """Raised if a checkpoint can't be read or belongs to another network."""


class NotFiniteError(FloatingPointError):
    """Raised if weights are NaN or infinite; they are not written."""


class Checkpoints:
    """Numbered checkpoints in a folder.

    A checkpoint holds every variable that a step reads or writes: the weights, BatchNorm's
    statistics, the states of random generators (dropout), the optimizer's momenta and step, and
    the metrics' counts since the start of the epoch.

    A file is written to a temporary path, flushed to disk and renamed, and the previous
    checkpoint is kept. Even if the process is killed or the disk is full, at least one readable
    checkpoint remains.

    The model must be compiled, and `metrics` must include that of the loss. On several machines
    only one process writes.
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
        # `model.metrics_variables` lacks some before the first step.
        self._counts = [variable for metric in metrics for variable in metric.variables]
        self._waiting: list[np.ndarray] = []
        if writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_drafts(self.folder, lambda name: name.startswith("step-"))

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def path(self, step: int) -> Path:
        """Returns the path of the checkpoint of a step."""
        return self.folder / f"step-{step:08d}.npz"

    def save(self, step: int, position: dict[str, Any]) -> list[np.ndarray]:
        """Writes the checkpoint of a step, and removes all but the newest two.

        `position` is any JSON-serializable value for `restore` to return. Returns the values of
        all variables, for `put_back`. If a weight is NaN or infinite, it raises NotFiniteError
        and writes nothing; if the file can't be written, the older checkpoints are kept.
        """
        # All machines must take part in reading the metrics.
        variables = self._variables()
        arrays = [keras.ops.convert_to_numpy(variable) for _, variable in variables]
        weights = len(self._model.variables)
        for (path, _), array in zip(variables[:weights], arrays, strict=False):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise NotFiniteError(f"{path} is no longer finite after step {step}")
        if not self.writes:
            return arrays
        meta = {
            "version": _VERSION,
            "step": step,
            "position": position,
            "paths": _paths(variables),
        }
        text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        with written_aside(self.path(step)) as draft:
            np.savez(draft, meta=text, **{str(n): array for n, array in enumerate(arrays)})
        for old in self.steps()[_KEPT:]:
            os.remove(self.path(old))
        return arrays

    def put_back(self, arrays: list[np.ndarray]) -> None:
        """Sets weights and optimizer to the values that `save` returned."""
        lasting = self._variables()[: len(arrays) - len(self._counts)]
        for (_, variable), array in zip(lasting, arrays, strict=False):
            _assign(variable, array)

    def restore(self) -> dict[str, Any] | None:
        """Restores weights and optimizer from the newest readable checkpoint.

        Call `restore_metrics` later for the metrics' counts, which `fit` resets first. Returns
        the `position` given to `save`; None if there is no checkpoint. Raises CheckpointError if
        none can be read, or if it belongs to another network or optimizer.
        """
        faults = []
        for step in self.steps():
            path = self.path(step)
            try:
                meta, arrays = _read(path)
            except (KeyError, OSError, ValueError) as error:
                faults.append(f"{path.name}: {error or type(error).__name__}")
                print(f"{path} can't be read ({error}); trying the one before", file=sys.stderr)
                continue
            self._assign(meta, arrays, path)
            return meta["position"]
        if faults:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(faults)}); choose "
                "another --output, or remove them to start again."
            )
        return None

    def restore_metrics(self) -> None:
        """Restores the metrics' counts from the checkpoint that `restore` read."""
        for variable, array in zip(self._counts, self._waiting, strict=True):
            _assign(variable, array, first=self.writes)

    def _variables(self):
        """Returns (path, variable) of the weights, the optimizer and the metrics."""
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
                f"{path} belongs to another network or optimizer ({new[0]} differs); choose "
                "another --output."
            )
        for (name, variable), array in zip(named, arrays, strict=True):
            if tuple(variable.shape) != array.shape:
                raise CheckpointError(
                    f"{path} belongs to another network: {name} has shape {array.shape}, not "
                    f"{tuple(variable.shape)}; choose another --output."
                )
        self.put_back(arrays)
        self._waiting = arrays[len(arrays) - len(self._counts) :]


def _paths(named):
    return [path for path, _ in named]


def _unnumbered(path):
    """Removes the numbers that Keras appends to the names of unnamed layers."""
    return re.sub(r"_\d+(?=/|$)", "", path)


def _read(path):
    arrays = read_npz(path)
    meta = json.loads(bytes(arrays["meta"]))
    if meta.get("version") != _VERSION:
        raise ValueError(f"it has version {meta.get('version')}, this package reads {_VERSION}")
    return meta, [arrays[str(n)] for n in range(len(meta["paths"]))]


def _assign(variable, array, *, first=True):
    """Sets a variable on every device; `first` is whether this is the first of the machines."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        value = variable.value
        on_read = tf.VariableSynchronization.ON_READ
        if isinstance(value, tf.distribute.DistributedValues) and value.synchronization == on_read:
            # Reading it sums over all devices, so each gets an equal share, since a step
            # reports the mean of their results. (`assign` would drop the remainder of counts.)
            count = variable.value.distribute_strategy.num_replicas_in_sync
            whole = array.dtype.kind in "iu"
            share = array // count if whole else array / count
            for index, local in enumerate(value.values):
                remainder = array - share * count if whole and first and index == 0 else 0
                local.assign(share + remainder)
            return
    variable.assign(array)
