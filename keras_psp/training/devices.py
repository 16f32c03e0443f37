"""Where a training runs: the devices of this machine, or of several."""

import contextlib
import functools
import json
import os
import zlib
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_psp.training.recipes import Recipe


@dataclass
class Devices:
    """The devices of a training.

    Attributes:
        kind: for the reader.
        machines, machine: how many processes there are, and which this is.
        replicas: devices that share a batch, on all machines.
        strategy: of `tf.distribute`, or None.
        names: of this machine's devices.
    """

    kind: str
    machines: int = 1
    machine: int = 0
    replicas: int = 1
    strategy: Any = None
    names: list[str] = field(default_factory=list)

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.machine == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(this machine, machines), for `training_batches`."""
        return self.machine, self.machines

    def scope(self):
        """The context in which the model is made."""
        return self.strategy.scope() if self.strategy is not None else contextlib.nullcontext()

    def check(self, recipe: Recipe) -> None:
        """Refuse what these devices can't do."""
        if recipe.jit_compile is True and self.strategy is not None:
            raise ValueError(
                f"jit_compile=True doesn't work under {self.kind}; leave it at 'auto', or train "
                "on one device or on the JAX backend."
            )
        batch_size, parts = recipe.batch_size, recipe.gradient_accumulation_steps
        if batch_size % (self.replicas * parts):
            raise ValueError(
                f"batch_size={batch_size} can't be shared equally by {self.replicas} device(s) "
                f"in {parts} part(s) each; choose a multiple of {self.replicas * parts}."
            )

    def check_agreement(self, step: int, facts: str) -> None:
        """Refuse machines that would go on from different steps, or do different things.

        Args:
            step: of the checkpoint.
            facts: recipe and numbers of examples.
        """
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
                f"the {self.machines} machines disagree: machine {self.machine} goes on after step "
                f"{step} with {facts}. All need the same recipe and data, and an output folder "
                "that all see."
            )

    def validation(self, source, split, *, image_size, batch_size=8):
        """The validation split as `evaluate` takes it, every picture judged once.

        Devices that share the work must all have some at every step, so what they lack is
        made up with pictures whose every pixel is ignored.

        Args:
            source, split, image_size: as for `keras_psp.data.evaluation_batches`.
            batch_size: pictures at a time on each device, where they have one size.

        Returns:
            The dataset, and the number of steps. (Under a strategy Keras would take the
            number of elements for it, and each device takes one at a step.)
        """
        from keras_psp.data import evaluation_batches

        options = {"split": split, "image_size": image_size}
        whole = evaluation_batches(source, batch_size=batch_size, **options)
        images, masks = whole.element_spec
        one_size = images.shape[1:3].is_fully_defined() and masks.shape[1:].is_fully_defined()
        size = batch_size if one_size else 1
        if self.replicas == 1:
            return whole, -(-source.count(split) // size)
        import tensorflow as tf

        if source.count(split) < self.machines:
            raise ValueError(
                f"split {split!r} has {source.count(split)} pictures for {self.machines} machines; "
                "each needs one. Set validation_epochs=0, or use fewer machines."
            )
        local = self.replicas // self.machines
        # JAX makes one array of what all processes have, so those must be of one shape.
        alone = self.strategy is None and not one_size
        shard = (0, 1) if alone else self.shard
        width = size * (1 if self.strategy is not None else local)
        batches = evaluation_batches(
            source, batch_size=width if one_size else 1, shard=shard, **options
        )
        if alone:
            width = local

        def filled(images, masks):
            missing = width - tf.shape(images)[0]
            images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
            masks = tf.pad(masks, [[0, missing], [0, 0], [0, 0]], constant_values=ignored)
            return images, masks

        def void(images, masks):
            return images, tf.fill(tf.shape(masks), ignored)

        ignored = tf.constant(source.ignore_class, tf.int32)
        batches = batches.map(filled)
        if alone:
            return (batches if self.first else batches.map(void)), source.count(split)
        # As many steps on every machine.
        share = -(-source.count(split) // self.machines)
        at_once = 1 if self.strategy is None else local
        steps = -(-share // (width * at_once))
        rest = batches.take(1).map(void).repeat(steps * at_once)
        return self._to_strategy(batches.concatenate(rest).take(steps * at_once)), steps

    def distributed(self, batches):
        """This machine's batches as `fit` takes them.

        One machine gives `fit` the dataset, which shares each batch among its devices; on
        several, each has its own part of the batch already and cuts it for its devices.
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
        """Each device takes the next element of this machine's dataset."""
        if self.strategy is None:
            return batches
        return self.strategy.distribute_datasets_from_function(lambda context: batches)


def find_devices(strategy: Any = None) -> Devices:
    """The devices that a training uses, by default all there are.

    On TensorFlow: several machines if TF_CONFIG names more than one worker
    (MultiWorkerMirroredStrategy), all GPUs of this one if it has several
    (MirroredStrategy), else the one device. On JAX: all devices (DataParallel), of all
    processes if KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID are set.
    On PyTorch: one device.

    Must be called before the first computation where there are several machines.

    Args:
        strategy: a `tf.distribute.Strategy` to use instead (TensorFlow only).
    """
    backend = keras.backend.backend()
    if strategy is not None and backend != "tensorflow":
        raise ValueError(f"strategy={strategy!r} needs the TensorFlow backend, not {backend}.")
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend](strategy)


def _tensorflow(strategy):
    import tensorflow as tf

    workers = _workers_of_tf_config()
    if strategy is None and len(workers) > 1:
        strategy = _strategy("MultiWorkerMirroredStrategy")
    gpus = tf.config.list_logical_devices("GPU")
    if strategy is None and len(gpus) > 1:
        strategy = _strategy("MirroredStrategy")
    names = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if strategy is None:
        return Devices("one device", names=names[:1])
    replicas = strategy.num_replicas_in_sync
    machines, machine = 1, 0
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and len(workers) > 1:
        machines = len(workers)
        machine = _own_place()
    kind = type(strategy).__name__
    return Devices(kind, machines, machine, replicas, strategy, names)


@functools.cache
def _strategy(name):
    """One a process: collectives serve no second one (TensorFlow issue 62790)."""
    import tensorflow as tf

    return getattr(tf.distribute, name)()


def _own_place():
    """This machine's place among those of TF_CONFIG, the chief before the workers."""
    config = json.loads(os.environ["TF_CONFIG"])
    task = config["task"]
    before = len(config["cluster"].get("chief", [])) if task["type"] == "worker" else 0
    return before + int(task["index"])


def _workers_of_tf_config():
    """Addresses of the machines of TF_CONFIG."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return []
    try:
        cluster = json.loads(text).get("cluster", {})
        workers = [*cluster.get("chief", []), *cluster.get("worker", [])]
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            f'TF_CONFIG={text!r} isn\'t {{"cluster": {{"worker": ["host:port", ...]}}, "task": '
            '{"type": "worker", "index": 0}}; set it on every machine, or unset it.'
        ) from None
    return workers


def _leave_gpus():
    """TensorFlow only reads pictures here, and would take the GPUs' memory."""
    try:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
    except (ImportError, RuntimeError):  # not installed, or at work already
        pass


def _jax(strategy):
    import jax

    _leave_gpus()
    several = os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES")
    if several and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    devices = jax.devices()
    names = [str(device) for device in jax.local_devices()]
    if len(devices) > 1:
        # Each process reads its own part of the data already.
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    kind = "one device" if len(devices) == 1 else "JAX DataParallel"
    return Devices(kind, jax.process_count(), jax.process_index(), len(devices), None, names)


def _torch(strategy):
    import torch

    _leave_gpus()
    return Devices("one device", names=["cuda:0" if torch.cuda.is_available() else "cpu"])
