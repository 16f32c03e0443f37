"""TODO."""

from keras import tree


def on_several_machines(strategy) -> bool:
    """Whether a `tf.distribute` strategy spans more than one process."""
    import tensorflow as tf

    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )


def local_values(strategy, values):
    """The first value on this machine, of each of a structure of values per replica."""
    return tree.map_structure(lambda v: strategy.experimental_local_results(v)[0], values)


def stepwise_function(model, step):
    """A function of an iterator that runs one step on all machines.

    In place of the one that Keras 3.15 makes, whose reduction of the logs fails on several
    machines (keras issue 20585). The logs are the mean over the replicas, as Keras has it on
    one machine; at the end of an epoch it reads the metrics of all together.
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
