"""A training step that computes its batch in parts, to save memory."""

from typing import Any

import keras
from keras import ops


def accumulated_step(model: Any, arguments: tuple, parts: int) -> Any:
    """Takes one step with the mean of the gradients of a batch's parts.

    Every `parts`-th example belongs to the same part, so that each of several devices holds an
    equal share of every part. BatchNorm sees one part at a time, and its moving statistics are
    updated with each.

    Takes and returns the same as the backend's `train_step`: (data,), or on JAX (state, data).
    """
    backend = keras.backend.backend()
    step: Any = {"tensorflow": _tensorflow_step, "jax": _jax_step, "torch": _torch_step}[backend]
    return step(model, *arguments, parts)


def _mapped(function, data):
    """The function applied to images, masks and weights, the last of which may be None."""
    return [None if values is None else function(values) for values in data]


def _check_divides(count, parts):
    if count is not None and count % parts:
        raise ValueError(
            f"a batch of {count} examples can't be computed in {parts} equal parts; choose "
            "gradient_accumulation_steps so that it divides the batch of each device."
        )


def _tensorflow_step(model, data, parts):
    import tensorflow as tf

    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    _check_divides(x.shape[0], parts)
    size = tf.shape(x)[0]
    # The size may be unknown until now; a smaller part would count too much.
    tf.debugging.assert_equal(size % parts, 0, "the batch isn't divisible into equal parts")
    variables = model.trainable_weights
    count = None if x.shape[0] is None else x.shape[0] // parts

    def part_of(values, index):
        part = values[index::parts]
        part.set_shape([count, *values.shape[1:]])
        return tf.identity(part)

    def one_part(index, total):
        images, masks, weights = _mapped(lambda values: part_of(values, index), (x, y, weight))
        with tf.GradientTape() as tape:
            outputs = model(images, training=True)
            loss = model._compute_loss(images, masks, outputs, weights, training=True)
            model._loss_tracker.update_state(
                _unscaled_for_distribution(loss), sample_weight=size // parts
            )
            loss = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, variables)
        model.compute_metrics(images, masks, outputs, sample_weight=weights)
        return index + 1, [a + b for a, b in zip(total, gradients, strict=True)]

    index, total = 0, [tf.zeros(variable.shape, variable.dtype) for variable in variables]
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        _, total = tf.while_loop(
            lambda index, _: index < parts,
            one_part,
            (index, total),
            parallel_iterations=1,  # otherwise several parts would be in memory
            maximum_iterations=parts,
        )
    else:
        # In a graph's loop, replicas can't exchange BatchNorm's statistics.
        for _ in range(parts):
            # Without the dependency, all parts would be in memory at the same time.
            with tf.control_dependencies(total):
                index, total = one_part(index, total)
    mean = [gradient / parts for gradient in total]
    model.optimizer.apply_gradients(list(zip(mean, variables, strict=True)))
    return model.get_metrics_result()


def _unscaled_for_distribution(loss):
    """The loss without Keras' division by the number of replicas."""
    import tensorflow as tf

    return loss * tf.distribute.get_strategy().num_replicas_in_sync


def _jax_step(model, state, data, parts):
    import jax

    trainable, others, optimizer, metrics = state
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    _check_divides(x.shape[0], parts)
    gradient_of = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)

    def split(values):
        # (batch, ...) to (parts, batch / parts, ...), every `parts`-th example together.
        return ops.swapaxes(ops.reshape(values, (-1, parts, *values.shape[1:])), 0, 1)

    def one_part(carry, part):
        total, others, metrics = carry
        (_, updated), gradients = gradient_of(
            trainable, others, metrics, *part, training=True, optimizer_variables=optimizer
        )
        loss, outputs, others, metrics = updated
        _, metrics = model._update_metrics_variables(
            metrics, loss, part[0], part[1], outputs, part[2]
        )
        total = [a + b for a, b in zip(total, gradients, strict=True)]
        return (total, others, metrics), None

    zeros = [ops.zeros_like(variable) for variable in trainable]
    batch = _mapped(split, (x, y, weight))
    (total, others, metrics), _ = jax.lax.scan(one_part, (zeros, others, metrics), batch)
    mean = [gradient / parts for gradient in total]
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, mean, trainable)
    mapping = list(zip(model.metrics_variables, metrics, strict=True))
    with keras.StatelessScope(state_mapping=mapping):
        logs = model.get_metrics_result()
    return logs, (trainable, others, optimizer, metrics)


def _torch_step(model, data, parts):
    import torch

    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    _check_divides(x.shape[0], parts)
    model.zero_grad()
    for index in range(parts):
        images, masks, weights = _mapped(
            lambda values, index=index: values[index::parts], (x, y, weight)
        )
        outputs = model(images, training=True)
        loss = model._compute_loss(images, masks, outputs, weights, training=True)
        model._loss_tracker.update_state(loss, sample_weight=len(images))
        (model.optimizer.scale_loss(loss) / parts).backward()
        logs = model.compute_metrics(images, masks, outputs, sample_weight=weights)
    variables = model.trainable_weights
    with torch.no_grad():
        model.optimizer.apply([variable.value.grad for variable in variables], variables)
    return logs
