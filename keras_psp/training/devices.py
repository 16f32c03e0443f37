"""The devices of a training, on one machine or several."""

import contextlib
import functools
import json
import os
import zlib
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_psp.data import evaluation_batches
from keras_psp.data.devices import leave_gpus_to_the_backend
from keras_psp.training.recipes import Recipe


@dataclass
class Devices:
    """The devices of a training."""

    kind: str  # for messages
    machines: int = 1  # one process on each
    machine: int = 0  # index of this one
    replicas: int = 1  # devices on all machines, which share a batch
    strategy: Any = None  # a tf.distribute.Strategy
    names: list[str] = field(default_factory=list)  # of this machine's devices

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.machine == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(this machine, machines), for `training_batches`."""
        return self.machine, self.machines

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which to build the model."""
        return self.strategy.scope() if self.strategy is not None else contextlib.nullcontext()

    def check(self, recipe: Recipe) -> None:
        """Raises ValueError if these devices can't train by a recipe."""
        if recipe.jit_compile is True and self.strategy is not None:
            raise ValueError(
                f"jit_compile=True does not work under {self.kind}; leave it at 'auto', or train "
                "on one device or on the JAX backend."
            )
        batch_size, parts = recipe.batch_size, recipe.gradient_accumulation_steps
        if batch_size % (self.replicas * parts):
            raise ValueError(
                f"batch_size={batch_size} can't be shared equally by {self.replicas} device(s) "
                f"in {parts} part(s) each; choose a multiple of {self.replicas * parts}."
            )

    def check_agreement(self, step: int, facts: str) -> None:
        """Raises ValueError unless all machines resume from the same step, with the same facts."""
        if self.machines == 1:
            return
        mine = zlib.crc32(f"{step} {facts}".encode()) % 2**31
        if self.strategy is not None:
            import tensorflow as tf

            everyone = self.strategy.run(lambda: tf.constant(mine, tf.int64))
            # Each equals the mean of all only if all are equal.
            agreed = int(self.strategy.reduce("SUM", everyone, axis=None)) == mine * self.replicas
        else:
            import jax.experimental.multihost_utils

            everyone = jax.experimental.multihost_utils.process_allgather(np.int32(mine))
            agreed = bool((everyone == mine).all())
        if not agreed:
            raise ValueError(
                f"the {self.machines} machines disagree: machine {self.machine} continues after "
                f"step {step} with {facts}. All need the same recipe and data, and an output "
                "folder that all can access."
            )

    def validation(
        self,
        source: Any,
        split: str,
        *,
        image_size: tuple[int, int] | None,
        batch_size: int = 8,
    ) -> tuple[Any, int]:
        """Returns the validation split, with each image once, and its steps for `Model.evaluate`.

        `batch_size` is the number of images on each device if all have the same size; otherwise
        it is 1. All devices need data at every step, so batches are filled up with images whose
        pixels are all ignored. Under a strategy, each device takes one element of the dataset per
        step.
        """
        options: dict[str, Any] = {"split": split, "image_size": image_size}
        whole = evaluation_batches(source, batch_size=batch_size, **options)
        one_size = whole.element_spec[1].shape[1:].is_fully_defined()
        size = batch_size if one_size else 1
        if self.replicas == 1:
            return whole, -(-source.count(split) // size)
        import tensorflow as tf

        if source.count(split) < self.machines:
            raise ValueError(
                f"split {split!r} has {source.count(split)} images for {self.machines} machines; "
                "each needs one. Set validation_epochs=0, or use fewer machines."
            )
        local = self.replicas // self.machines
        # JAX joins the arrays of all processes, so they must have the same shape.
        gathered = self.strategy is None and not one_size
        shard = (0, 1) if gathered else self.shard
        at_once = 1 if self.strategy is None else local
        width = size * local // at_once
        batches = evaluation_batches(source, batch_size=width, shard=shard, **options)

        def filled(images, masks):
            missing = width - tf.shape(images)[0]
            images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
            masks = tf.pad(masks, [[0, missing], [0, 0], [0, 0]], constant_values=ignored)
            return images, masks

        def void(images, masks):
            return images, tf.fill(tf.shape(masks), ignored)

        ignored = tf.constant(source.ignore_class, tf.int32)
        batches = batches.map(filled)
        if gathered:
            return (batches if self.first else batches.map(void)), source.count(split)
        # All machines need the same number of steps.
        share = -(-source.count(split) // self.machines)
        steps = -(-share // (size * local))
        rest = batches.take(1).map(void).repeat(steps * at_once)
        return self._to_strategy(batches.concatenate(rest).take(steps * at_once)), steps

    def distributed(self, batches: Any) -> Any:
        """Returns this machine's batches for `fit`.

        On one machine `fit` splits each batch among the devices. On several, each machine has
        its part of a batch already, which is split here.
        """
        if self.machines == 1 or self.strategy is None:
            return batches
        import tensorflow as tf

        local = self.replicas // self.machines

        def cut(images, masks):
            return tuple(
                tf.reshape(values, tf.concat([[local, -1], tf.shape(values)[1:]], 0))
                for values in (images, masks)
            )

        return self._to_strategy(batches.map(cut).unbatch() if local > 1 else batches)

    def _to_strategy(self, batches):
        """Returns a dataset from which each device takes the next element."""
        if self.strategy is None:
            return batches
        return self.strategy.distribute_datasets_from_function(lambda context: batches)


def find_devices(strategy: Any = None) -> Devices:
    """Returns the devices that a training uses, by default all of them.

    On TensorFlow, these are several machines if TF_CONFIG names more than one worker
    (MultiWorkerMirroredStrategy), all GPUs of this machine if it has several
    (MirroredStrategy), or a single device. On JAX, they are all devices (DataParallel), including
    those of other processes if KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID
    are set. On PyTorch, it is one device.

    With several machines it must be called before the first computation. On TensorFlow, a
    `tf.distribute.Strategy` may be given instead.
    """
    backend = keras.backend.backend()
    if strategy is not None and backend != "tensorflow":
        raise ValueError(f"strategy={strategy!r} needs the TensorFlow backend, not {backend}.")
    if backend == "tensorflow":
        return _tensorflow(strategy)
    with contextlib.suppress(ImportError):
        leave_gpus_to_the_backend()
    if backend == "jax":
        return _jax()
    import torch

    return Devices("one device", names=["cuda:0" if torch.cuda.is_available() else "cpu"])


def _tensorflow(strategy):
    import tensorflow as tf

    machines, machine = _machines_of_tf_config()
    if strategy is None and machines > 1:
        strategy = _single(tf.distribute.MultiWorkerMirroredStrategy)
    gpus = tf.config.list_logical_devices("GPU")
    if strategy is None and len(gpus) > 1:
        strategy = _single(tf.distribute.MirroredStrategy)
    names = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if strategy is None:
        return Devices("one device", names=names[:1])
    if machines < 2 or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        machines, machine = 1, 0
    replicas = strategy.num_replicas_in_sync
    return Devices(type(strategy).__name__, machines, machine, replicas, strategy, names)


@functools.cache
def _single(strategy_class):
    """Returns the only strategy per process; a second couldn't communicate (TensorFlow #62790)."""
    return strategy_class()


def _machines_of_tf_config():
    """Returns the number of machines in TF_CONFIG and the index of this one, chief first."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
        index = int(task.get("index", 0)) + (len(chiefs) if task.get("type") == "worker" else 0)
        return len([*chiefs, *workers]), index
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            f'TF_CONFIG={text!r} is not {{"cluster": {{"worker": ["host:port", ...]}}, "task": '
            '{"type": "worker", "index": 0}}; set it on every machine, or unset it.'
        ) from None


def _jax():
    import jax

    several = os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES")
    if several and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    devices = jax.devices()
    names = [str(device) for device in jax.local_devices()]
    if len(devices) > 1:
        # Each process reads only its part of the data.
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    kind = "one device" if len(devices) == 1 else "JAX DataParallel"
    return Devices(kind, jax.process_count(), jax.process_index(), len(devices), None, names)
