"""Additions to Keras' trainer for `tf.distribute` strategies that span several machines."""

from collections.abc import Callable
from typing import Any

from keras import tree


def on_several_machines(strategy: Any) -> bool:
    """Whether a `tf.distribute` strategy spans more than one process."""
    import tensorflow as tf

    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )


def local_values(strategy: Any, values: Any) -> Any:
    """Replaces per-replica values in a nested structure by the first one on this machine."""
    return tree.map_structure(lambda v: strategy.experimental_local_results(v)[0], values)


def stepwise_function(model: Any, step: Callable) -> Callable:
    """Returns a function of an iterator that runs steps on all machines.

    It replaces the one that Keras 3.15 creates, whose reduction of the logs fails on several
    machines (keras issue 20585). The logs are the mean over the replicas, as in Keras on one
    machine; at the end of an epoch, Keras reads the metrics of all replicas together.
    """
    import tensorflow as tf

    strategy = model.distribute_strategy

    @tf.autograph.experimental.do_not_convert
    def one_step(data):
        logs = strategy.run(step, args=(data,))
        return tree.map_structure(lambda value: strategy.reduce("MEAN", value, axis=None), logs)

    if not model.run_eagerly:
        one_step = tf.function(one_step, reduce_retracing=True)

    def function(iterator):
        for _ in range(model.steps_per_execution):
            logs = one_step(next(iterator))
        return logs

    return function
