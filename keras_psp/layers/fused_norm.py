"""Batch normalization in training as one operation of each backend, with an exact gradient.

Keras composes it from a dozen operations on float32 copies. A single operation takes a fraction of
that time on TensorFlow, and stores only its input, in the input's own precision.

If another operation follows (`then`), the ReLU between them is included, and its output isn't
stored either: the backward pass recomputes it, as in in-place activated BatchNorm (Rota Bulo et
al., CVPR 2018).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.layers.recomputation import later

Renormalization = Callable[[Any, Any], tuple[Any, Any]]
"""Maps mean and variance to (factor, shift) of the normalized values, without gradient."""


def batch_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    epsilon: float,
    *,
    renormalization: Renormalization | None = None,
    synchronized: bool = False,
    then: Callable[..., Any] | None = None,
    weights: Sequence[Any] = (),
) -> tuple[Any, Any, Any]:
    """Normalizes a batch by its own statistics.

    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta, in x's dtype; with a
    `renormalization`, (factor * gamma) in place of gamma and (beta + shift * gamma) of beta.

    Args:
        x: (batch, height, width, channels).
        gamma, beta: (channels,), float32, or float64 if x is.
        synchronized: whether the replicas of a `tf.distribute` strategy share the statistics.
        then: a function of a map and `weights` without side effects. On PyTorch, its attribute
            `gradient`, if any, takes the map, the weights and the gradient of the result, and
            returns the gradients of map and weights; without it the function runs twice.
        weights: tensors.

    Returns:
        y, or then(relu(y), *weights); mean and variance (channels,), without gradient.
    """
    functions: dict[str, Any] = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    compute = functions[keras.backend.backend()]
    return compute(x, gamma, beta, epsilon, renormalization, synchronized, then, tuple(weights))


def _renormalized(gamma, beta, renormalization, mean, variance):
    """Scale and offset of the normalized values, and the factor and shift that they contain."""
    factor, shift = renormalization(mean, variance)
    return gamma * factor, beta + gamma * shift, factor, shift


def _affine(x, mean, variance, scale, offset, epsilon):
    """Normalized values times scale plus offset, rounded once."""
    scale = scale * ops.rsqrt(variance + epsilon)
    return ops.cast(ops.cast(x, scale.dtype) * scale + (offset - mean * scale), x.dtype)


def _jax(x, gamma, beta, epsilon, renormalization, synchronized, then, weights):
    del synchronized  # JAX computes the statistics of the whole global batch
    import jax

    def forward(x, gamma, beta, *weights):
        wide = x.astype(gamma.dtype)
        mean = ops.mean(wide, axis=(0, 1, 2))
        variance = ops.mean(ops.square(wide - mean), axis=(0, 1, 2))
        scale, offset, factor, shift = gamma, beta, ops.ones_like(gamma), ops.zeros_like(beta)
        if renormalization is not None:
            parts = _renormalized(gamma, beta, renormalization, mean, variance)
            scale, offset, factor, shift = parts
        y = _affine(x, mean, variance, scale, offset, epsilon)
        outputs = y if then is None else then(ops.relu(y), *weights)
        return (outputs, mean, variance), (x, mean, variance, scale, offset, factor, shift, weights)

    def backward(kept, upstreams):
        x, mean, variance, scale, offset, factor, shift, weights = kept
        upstream, d_weights = upstreams[0], ()
        if then is not None:
            y = _affine(x, mean, variance, scale + later(upstream, scale.dtype), offset, epsilon)
            _, pullback = jax.vjp(lambda y, *weights: then(ops.relu(y), *weights), y, *weights)
            upstream, *d_weights = pullback(upstream)
        rate = jax.lax.rsqrt(variance + epsilon) + later(upstream, scale.dtype)
        upstream, normal = upstream.astype(scale.dtype), (x.astype(scale.dtype) - mean) * rate
        d_offset = ops.sum(upstream, axis=(0, 1, 2))
        d_scale = ops.sum(upstream * normal, axis=(0, 1, 2))
        count = x.size // x.shape[-1]
        d_x = scale * rate * (upstream - d_offset / count - normal * (d_scale / count))
        return d_x.astype(x.dtype), d_scale * factor + d_offset * shift, d_offset, *d_weights

    normalize = jax.custom_vjp(lambda *inputs: forward(*inputs)[0])
    normalize.defvjp(forward, backward)
    return normalize(x, gamma, beta, *weights)


def _tensorflow(x, gamma, beta, epsilon, renormalization, synchronized, then, weights):
    import tensorflow as tf

    if x.dtype == tf.float64:
        return _tensorflow_float64(x, gamma, beta, epsilon, renormalization, then, weights)
    ones, zeros = tf.ones_like(gamma), tf.zeros_like(beta)
    count = math.prod(x.shape[:3]) if None not in x.shape[:3] else tf.reduce_prod(tf.shape(x)[:3])
    count = tf.cast(count, gamma.dtype)

    def train(x, scale, offset):
        """Normalized values, mean, variance and the inputs of the gradient."""
        options = {"mean": [], "variance": [], "epsilon": epsilon, "is_training": True}
        y, mean, variance, *kept = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, **options
        )
        # Without Bessel's correction, which cuDNN makes NaN for one value.
        return y, mean, tf.math.multiply_no_nan(variance, (count - 1) / count), kept

    def apply(x, scale, offset, mean, variance):
        options = {"mean": mean, "variance": variance, "epsilon": epsilon, "is_training": False}
        return tf.raw_ops.FusedBatchNormV3(x=x, scale=scale, offset=offset, **options)[0]

    direct = renormalization is None and not synchronized
    if direct and then is None:
        return train(x, gamma, beta)[:3]

    @tf.custom_gradient
    def normalize(x, gamma, beta, *weights):
        scale, offset, factor, shift, total = gamma, beta, ones, zeros, count
        if direct:
            y, mean, variance, kept = train(x, gamma, beta)
        else:
            _, mean, variance, kept = train(x, ones, zeros)
            if synchronized:
                mean, variance, total = _pooled(mean, variance, count)
            if renormalization is not None:
                parts = _renormalized(gamma, beta, renormalization, mean, variance)
                scale, offset, factor, shift = parts
            y = apply(x, scale, offset, mean, variance)
        outputs = y if then is None else then(tf.nn.relu(y), *weights)

        def gradient(upstream, *_):
            upstreams = []
            if then is not None:
                delayed = scale + later(upstream, scale.dtype)
                rectified = tf.nn.relu(apply(x, delayed, offset, mean, variance))
                with tf.GradientTape() as tape:
                    tape.watch([rectified, *weights])
                    result = then(rectified, *weights)
                upstream, *upstreams = tape.gradient(result, [rectified, *weights], upstream)
                upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=rectified)
            own = (mean, variance, zeros[:0]) if synchronized else kept
            d_x, d_scale, d_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=x,
                scale=scale,
                reserve_space_1=own[0],
                reserve_space_2=own[1],
                reserve_space_3=own[2],
                epsilon=epsilon,
                is_training=not synchronized,  # whether the statistics are of this x alone
            )
            if synchronized:
                sums = [value / total for value in _all_reduced([d_scale, d_offset])]
                gain = scale * tf.math.rsqrt(variance + epsilon)
                d_x -= apply(x, gain * sums[0], gain * sums[1], mean, variance)
            return d_x, d_scale * factor + d_offset * shift, d_offset, *upstreams

        return (outputs, mean, variance), gradient

    return normalize(x, gamma, beta, *weights)


def _tensorflow_float64(x, gamma, beta, epsilon, renormalization, then, weights):
    """The same with elementwise operations, since the fused ones have no float64."""
    import tensorflow as tf

    mean, variance = tf.nn.moments(x, (0, 1, 2))
    if renormalization is not None:
        fixed = tf.stop_gradient(mean), tf.stop_gradient(variance)
        gamma, beta, *_ = _renormalized(gamma, beta, renormalization, *fixed)
    y = _affine(x, mean, variance, gamma, beta, epsilon)
    return y if then is None else then(tf.nn.relu(y), *weights), mean, variance


def _all_reduced(values):
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _pooled(mean, variance, count):
    """Mean, variance and number of values of all replicas together."""
    total, mean_sum = _all_reduced([count, count * mean])
    common = mean_sum / total
    (spread,) = _all_reduced([count * (variance + (mean - common) ** 2)])
    return common, spread / total, total


def _torch(x, gamma, beta, epsilon, renormalization, synchronized, then, weights):
    del synchronized  # which BatchNormalization refuses
    if then is not None:
        return _torch_function().apply(epsilon, renormalization, then, x, gamma, beta, *weights)
    if renormalization is None:
        return _torch_train(x, gamma, beta, epsilon)
    y, mean, variance = _torch_train(x, ops.ones_like(gamma), ops.zeros_like(beta), epsilon)
    scale, offset, *_ = _renormalized(gamma, beta, renormalization, mean, variance)
    return ops.cast(ops.cast(y, scale.dtype) * scale + offset, x.dtype), mean, variance


def _torch_train(x, scale, offset, epsilon):
    import torch

    mean, variance = torch.zeros_like(scale.detach()), torch.zeros_like(scale.detach())
    y = torch.batch_norm(x.movedim(-1, 1), scale, offset, mean, variance, True, 1.0, epsilon, True)
    count = x.numel() // x.shape[-1]
    # Without Bessel's correction, which is infinite for one value.
    variance = variance * ((count - 1) / count) if count > 1 else torch.zeros_like(variance)
    return y.movedim(1, -1), mean, variance


@functools.cache
def _torch_function():
    import torch

    class NormalizedThen(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, epsilon: float, renormalization: Any, then: Any, *tensors: Any
        ) -> Any:
            x, gamma, beta, *weights = tensors
            scale, offset, factor, shift = gamma, beta, None, None
            if renormalization is None:
                y, mean, variance = _torch_train(x, gamma, beta, epsilon)
            else:
                ones, zeros = torch.ones_like(gamma), torch.zeros_like(beta)
                _, mean, variance = _torch_train(x, ones, zeros, epsilon)
                parts = _renormalized(gamma, beta, renormalization, mean, variance)
                scale, offset, factor, shift = parts
                y = _affine(x, mean, variance, scale, offset, epsilon)
            ctx.save_for_backward(x, mean, variance, scale, offset, factor, shift, *weights)
            ctx.epsilon, ctx.then = epsilon, then
            ctx.mark_non_differentiable(mean, variance)
            return then(torch.relu(y), *weights), mean, variance

        @staticmethod
        def backward(ctx: Any, upstream: Any, *_: Any) -> Any:
            x, mean, variance, scale, offset, factor, shift, *weights = ctx.saved_tensors
            y = _affine(x, mean, variance, scale, offset, ctx.epsilon)
            rectified = torch.relu_(y)
            gradient = getattr(ctx.then, "gradient", None) or functools.partial(
                _torch_gradient, ctx.then
            )
            upstream, *upstreams = gradient(rectified, weights, upstream)
            upstream = torch.where(rectified > 0, upstream, torch.zeros_like(upstream))
            d_x, d_scale, d_offset = torch.ops.aten.native_batch_norm_backward(
                upstream.movedim(-1, 1),
                x.movedim(-1, 1),
                scale,
                None,
                None,
                mean,
                torch.rsqrt(variance + ctx.epsilon),
                True,
                ctx.epsilon,
                [True] * 3,
            )
            if factor is not None:
                d_scale = d_scale * factor + d_offset * shift
            return None, None, None, d_x.movedim(1, -1), d_scale, d_offset, *upstreams

    return NormalizedThen


def _torch_gradient(function, x, weights, upstream):
    import torch

    with torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
        return torch.autograd.grad(function(*inputs), inputs, upstream)
