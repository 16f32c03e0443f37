"""Turns logits of windows into probabilities of an image, for `Segmenter`."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.prediction.windows import Axis, resize_taps


def row_parts(
    rows: Axis, height: int, target: np.ndarray, padded: bool, step: int
) -> Iterator[tuple[int, slice, np.ndarray]]:
    """Yields (row of windows, slice of its rows, matrix from these to the target rows)."""
    first, second, share = resize_taps(rows.length, height)
    matrix_of: dict[int, list] = {}
    for positions, weights in ((first, 1 - share), (second, share)):
        window, pixel, part = rows.windows_of(positions[target])
        for k in range(len(window)):
            for out in range(len(target)):
                weight = part[k, out] * weights[target[out]]
                if weight > 0:
                    matrix_of.setdefault(int(window[k, out]), []).append(
                        (out, int(pixel[k, out]), weight)
                    )
    for place in sorted(matrix_of):
        taps = matrix_of[place]
        low = min(pixel for _, pixel, _ in taps)
        high = max(pixel for _, pixel, _ in taps) + 1
        if padded:  # one shape for all blocks of a scale
            most = min(rows.crop, int(np.ceil(step * rows.length / height)) + 2)
            low = max(0, min(low, rows.crop - most))
            high = max(high, low + most)
        lower = np.zeros((len(target), high - low))
        for out, pixel, weight in taps:
            lower[out, pixel - low] += weight
        yield place, slice(low, high), lower


def column_taps(
    columns: Axis, target: int, width: int
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Finds the columns of a row of windows that make up each of `width` target columns.

    Returns indices and weights, each a tuple of (width,) arrays.
    """
    first, second, share = resize_taps(columns.length, target)
    indices, weights_of = [], []
    for positions, weights in ((first, 1 - share), (second, share)):
        window, pixel, part = columns.windows_of(positions)
        indices.append(window * columns.crop + pixel)
        weights_of.append(part * weights)
    index, weight = np.concatenate(indices), np.concatenate(weights_of)
    kept = weight.any(axis=1)
    beyond = [[0, 0], [0, width - target]]
    return (
        tuple(np.pad(index[kept], beyond).astype(np.int32)),
        tuple(np.pad(weight[kept], beyond).astype(np.float32)),
    )


def combined(
    logits: Any,
    down: Any,
    across: Any,
    lower: Any,
    index: tuple,
    weight: tuple,
    *,
    normalize: bool,
) -> Any:
    """Computes what a row of windows contributes to the probabilities of some image rows.

    `down` (rows, h) and `across` (crop, w) interpolate the logits, (windows, views, h, w,
    classes), to the rows needed and to all columns of a window. `lower` (target rows, rows)
    resizes and averages along the rows; `index` and `weight` along the columns of all windows,
    see `column_taps`. Returns (target rows, target width, classes).
    """
    windows, views, high, wide, classes = ops.shape(logits)
    rows, crop = ops.shape(down)[0], ops.shape(across)[0]
    targets = ops.shape(lower)[0]
    x = ops.reshape(ops.transpose(logits, (2, 0, 1, 3, 4)), (high, -1))
    x = ops.reshape(ops.matmul(down, x), (rows * windows * views, wide, classes))
    x = ops.matmul(across, x)
    if normalize:
        x = ops.softmax(x, axis=-1)
    x = ops.reshape(x, (rows, windows, views, crop * classes))
    x = x[:, :, 0] if logits.shape[1] == 1 else x[:, :, 0] + x[:, :, 1]
    x = ops.reshape(
        ops.matmul(lower, ops.reshape(x, (rows, -1))), (targets, windows * crop, classes)
    )
    result = 0.0
    for place, share in zip(index, weight, strict=True):
        result = result + ops.take(x, place, axis=1) * share[:, None]
    return result


@functools.cache  # `predict` makes a segmenter per call
def compiled(
    function: Callable, options: tuple, shapes: tuple, taps: int | None
) -> Callable[..., Any]:
    """Compiles a function of float32 arrays of the given shapes and, with taps, of column taps."""
    function = functools.partial(function, **dict(options)) if options else function
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec(shape, "float32") for shape in shapes]
        if taps is not None:
            signature += [(tf.TensorSpec((None,), kind),) * taps for kind in ("int32", "float32")]
        return tf.function(function, input_signature=signature, autograph=False)
    import torch

    return torch.no_grad()(function)
