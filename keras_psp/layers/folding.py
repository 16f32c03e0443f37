"""BatchNorm folded into the convolution before it, for export.

`ConvNorm` and `PyramidPoolingModule` return such weights from `folded_weights`. While a network
is traced for export, `folded_into` passes them as tensors, and `call` uses these instead of
folding again for every image.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

_TENSORS: contextvars.ContextVar[Mapping[int, Any] | None] = contextvars.ContextVar(
    "tensors", default=None
)


def fold(
    kernel: Any, bias: Any | None, norm: keras.layers.BatchNormalization | None
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (..., filters) and bias (filters,), float32, of a convolution and BatchNorm in one."""
    kernel = np.asarray(ops.convert_to_numpy(kernel), "float64")
    bias = np.zeros(kernel.shape[-1]) if bias is None else _numbers(bias)
    if norm is not None:
        scale = _numbers(norm.gamma) / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
        kernel = kernel * scale
        bias = _numbers(norm.beta) + (bias - _numbers(norm.moving_mean)) * scale
    return kernel.astype("float32"), bias.astype("float32")


def _numbers(variable):
    return np.asarray(ops.convert_to_numpy(variable), "float64")


def foldable_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that have `folded_weights`, in network order."""
    return [layer for layer in model._flatten_layers() if hasattr(layer, "folded_weights")]


@contextlib.contextmanager
def folded_into(tensors: Mapping[int, Any]) -> Iterator[None]:
    """Context in which layers use the given (kernel, bias), by `id(layer)`."""
    token = _TENSORS.set(tensors)
    try:
        yield
    finally:
        _TENSORS.reset(token)


def folded_tensors(layer: keras.layers.Layer) -> Any | None:
    """The (kernel, bias) that `folded_into` set for a layer; None outside of its context."""
    tensors = _TENSORS.get()
    return None if tensors is None else tensors.get(id(layer))
