"""BatchNorm folded into the convolution before it, for export.

`ConvNorm` and `PyramidPoolingModule` return such weights from `folded_weights`. While a network
is traced for export, `folded_into` passes them as tensors, and `call` uses these instead of
folding again for every image. It can also pass a faster way to compute convolutions.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

_TENSORS: contextvars.ContextVar[Mapping[int, Any] | None] = contextvars.ContextVar(
    "tensors", default=None
)
_CONVOLUTION: contextvars.ContextVar[Callable | None] = contextvars.ContextVar(
    "convolution", default=None
)


def fold(
    kernel: Any, bias: Any | None, norm: keras.layers.BatchNormalization | None
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (..., filters) and bias (filters,), float32, of a convolution and BatchNorm in one."""
    kernel = np.asarray(ops.convert_to_numpy(kernel), "float64")
    bias = np.zeros(kernel.shape[-1]) if bias is None else _numbers(bias)
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        kernel = kernel * scale
        bias = bias * scale + shift
    return kernel.astype("float32"), bias.astype("float32")


def scale_and_shift(norm: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """What BatchNorm multiplies and then adds in inference, each (channels,) float64."""
    scale = _numbers(norm.gamma) / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
    return scale, _numbers(norm.beta) - _numbers(norm.moving_mean) * scale


def _numbers(variable):
    return np.asarray(ops.convert_to_numpy(variable), "float64")


def foldable_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that have `folded_weights`, in network order."""
    return [layer for layer in model._flatten_layers() if hasattr(layer, "folded_weights")]


@contextlib.contextmanager
def folded_into(
    tensors: Mapping[int, Any], convolution: Callable[..., Any] | None = None
) -> Iterator[None]:
    """Context in which layers use the given (kernel, bias), by `id(layer)`.

    `convolution` maps (x, kernel, stride, dilation) to the result of a convolution without bias,
    or to None where the ordinary operation is better.
    """
    tokens = _TENSORS.set(tensors), _CONVOLUTION.set(convolution)
    try:
        yield
    finally:
        _TENSORS.reset(tokens[0])
        _CONVOLUTION.reset(tokens[1])


def replaced_convolution(x: Any, kernel: Any, stride: int, dilation: int) -> Any | None:
    """The result of the `convolution` that `folded_into` set; None without one."""
    convolution = _CONVOLUTION.get()
    return None if convolution is None else convolution(x, kernel, stride, dilation)


def folded_tensors(layer: keras.layers.Layer) -> Any | None:
    """The (kernel, bias) that `folded_into` set for a layer; None outside of its context."""
    tensors = _TENSORS.get()
    return None if tensors is None else tensors.get(id(layer))
