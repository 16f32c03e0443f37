"""BatchNorm made part of the convolution before it, for good.

`ConvNorm` and `PyramidPoolingModule` give their weights so by `folded_weights`. While a network
is traced for export, `folded_into` hands them tensors of these, which their `call` then uses
instead of working them out for every image.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from keras import ops

_TENSORS: contextvars.ContextVar[Mapping[int, Any] | None] = contextvars.ContextVar(
    "tensors", default=None
)


def fold(kernel, bias, norm) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of one convolution that does the work of a convolution and a BatchNorm.

    Args:
        kernel: (..., filters).
        bias: (filters,), or None.
        norm: a built `keras.layers.BatchNormalization`, or None.

    Returns:
        kernel of the same shape and bias (filters,), computed in float64, as float32.
    """
    kernel = np.asarray(ops.convert_to_numpy(kernel), "float64")
    bias = np.zeros(kernel.shape[-1]) if bias is None else _numbers(bias)
    if norm is not None:
        scale = _numbers(norm.gamma) / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
        kernel = kernel * scale
        bias = _numbers(norm.beta) + (bias - _numbers(norm.moving_mean)) * scale
    return kernel.astype("float32"), bias.astype("float32")


def _numbers(variable):
    return np.asarray(ops.convert_to_numpy(variable), "float64")


def foldable_layers(model) -> list:
    """The layers that have `folded_weights`, in the order of the network."""
    return [layer for layer in model._flatten_layers() if hasattr(layer, "folded_weights")]


@contextlib.contextmanager
def folded_into(tensors: Mapping[int, Any]) -> Iterator[None]:
    """Within the block, layers use these (kernel, bias), by the `id` of the layer."""
    token = _TENSORS.set(tensors)
    try:
        yield
    finally:
        _TENSORS.reset(token)


def folded_tensors(layer) -> Any | None:
    """(kernel, bias) that `folded_into` gave for a layer; None outside of it."""
    tensors = _TENSORS.get()
    return None if tensors is None else tensors.get(id(layer))
