"""Recomputes intermediate maps of layers in the backward pass instead of storing them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


def recomputed(function: Callable[[Any], Any], layers: Sequence[keras.layers.Layer], x: Any) -> Any:
    """Returns function(x), storing only x for the backward pass.

    The function may read and update only the variables of these layers. They are updated once.
    (`keras.remat` updates them twice, and takes no keyword arguments on TensorFlow: Keras issues
    20743, 21207 and 23107.)
    """
    trained = [variable for layer in layers for variable in layer.trainable_variables]
    others = [variable for layer in layers for variable in layer.non_trainable_variables]
    before = [ops.copy(variable.value) for variable in others]

    def pure(x, *values):
        mapping = [*zip(trained, values, strict=True), *zip(others, before, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            y = function(x)
        return y, *(scope.get_current_value(variable) for variable in others)

    functions: dict[str, Any] = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    compute = functions[keras.backend.backend()]
    y, *after = compute(pure, x, *(variable.value for variable in trained))
    for variable, value in zip(others, after, strict=True):
        variable.assign(value)
    return y


def later(upstream: Any, dtype: Any) -> Any:
    """A zero that isn't known before the gradient `upstream` is.

    Added to what is recomputed in the backward pass, it keeps a compiler from reusing the result of
    the forward pass, and an executor from starting long before it is needed. XLA doesn't simplify
    0 * x for floats; TensorFlow's graph optimization may, but then keeps the order.
    """
    return 0 * ops.cast(ops.reshape(upstream, (-1,))[0], dtype)


def _jax(function, *tensors):
    import jax

    def forward(*tensors):
        return function(*tensors), tensors

    def backward(tensors, upstreams):
        # `jax.checkpoint` has no effect here: XLA's CPU compiler removes its barriers.
        x, *values = tensors
        delayed = x + later(upstreams[0], x.dtype)
        _, pullback = jax.vjp(lambda *tensors: function(*tensors)[0], delayed, *values)
        return pullback(upstreams[0])

    call = jax.custom_vjp(function)
    call.defvjp(forward, backward)
    return call(*tensors)


def _torch(function, *tensors):
    from torch.utils.checkpoint import checkpoint

    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)


def _tensorflow(function, *tensors):
    import tensorflow as tf

    @tf.custom_gradient
    def call(x, *values):
        def gradient(upstream, *_):
            delayed = x + later(upstream, x.dtype)
            with tf.GradientTape() as tape:
                tape.watch([delayed, *values])
                y, *_ = function(delayed, *values)
            return tape.gradient(y, [delayed, *values], upstream)

        return function(x, *values), gradient

    return call(*map(tf.convert_to_tensor, tensors))
