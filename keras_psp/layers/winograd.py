"""Winograd's minimal filtering for 3x3 convolutions, as small matrices (Lavin, Gray 2016).

Five outputs of a convolution with three taps need seven multiplications instead of 15; in two
dimensions, 25 outputs need 49 instead of 225. The additions before and after are linear maps along
the rows and the columns, like pooling and resizing in `keras_psp.layers.resampling`; dilation only
changes which pixels a tile takes. For inference in float32 on CPUs.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

OUTPUTS = (4, 5)
"""Outputs per tile along one axis. More would save little time and lose too many digits.

The error of a float32 convolution is 1e-7 of the range of its results; tiles of 4 have 1e-6, of 5
4e-6.
"""

# Where polynomials are evaluated, besides infinity: of small fractions, those with the least error.
_POINTS = (0, 1, -1, -2, 1 / 2, -1 / 2)

# With fewer channels the additions cost more than the multiplications that they save.
_LEAST_CHANNELS = 256

# Columns of a tile at a time. More need more memory for products, fewer for packed operands.
_COLUMNS = 4


class Axis(NamedTuple):
    """Maps along one axis of a zero-padded convolution, over all tiles, float64.

    With n multiplications per tile, `inputs` is (n, tiles, size), `weights` (n, 3) and `outputs`
    (size, n, tiles).
    """

    inputs: np.ndarray
    weights: np.ndarray
    outputs: np.ndarray


def tile_matrices(outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of `output @ ((weights @ kernel) * (inputs @ x))`, which convolves one tile.

    They are the transposed Toom-Cook multiplication of polynomials. Returns inputs (n, n),
    weights (n, 3) and output (outputs, n), for n = outputs + 2 multiplications.
    """
    n = outputs + 2
    points = np.array(_POINTS[: n - 1])
    inputs, weights, output = np.zeros((n, n)), np.zeros((n, 3)), np.zeros((outputs, n))
    for row, point in enumerate(points):
        others = np.delete(points, row)
        inputs[row, : n - 1] = np.poly(others)[::-1]
        weights[row] = point ** np.arange(3) / np.prod(point - others)
        output[:, row] = point ** np.arange(outputs)
    inputs[-1] = np.poly(points)[::-1]
    weights[-1, -1] = output[-1, -1] = 1  # infinity
    return inputs, weights, output


def axis(size: int, dilation: int) -> Axis:
    """The maps of an axis with `size` pixels, with as few multiplications as possible.

    A dilated convolution is an ordinary one over every `dilation`-th pixel, for each offset.
    """
    count = min(OUTPUTS, key=lambda count: _multiplications(size, dilation, count))
    inputs, weights, output = tile_matrices(count)
    starts = np.arange(0, -(-size // dilation), count)
    first = np.arange(min(dilation, size))[:, None] + dilation * starts  # pixel of each tile
    first, pixels = first.reshape(-1, 1), np.arange(size)
    taken = first + dilation * np.arange(-1, count + 1)
    written = first + dilation * np.arange(count)
    return Axis(
        np.einsum("rc,tcp->rtp", inputs, taken[..., None] == pixels),
        weights,
        np.einsum("or,top->prt", output, written[..., None] == pixels),
    )


def kernel_matrix(rows: Axis, columns: Axis) -> np.ndarray:
    """Maps a kernel's nine taps to its weights: (columns, rows, 9), float64."""
    product = np.einsum("ri,cj->crij", rows.weights, columns.weights)
    return product.reshape(*product.shape[:2], 9)


def pays(kernel_shape: Sequence[int], size: Sequence[int], stride: int, dilation: int) -> bool:
    """Whether this is faster than the convolution itself, as measured on CPUs.

    Args:
        kernel_shape: (rows, columns, channels, filters).
        size: height and width of the map.
    """
    if tuple(kernel_shape[:2]) != (3, 3) or stride > 1 or min(kernel_shape[2:]) < _LEAST_CHANNELS:
        return False
    left = [min(_multiplications(n, dilation, m) for m in OUTPUTS) / (3 * n) for n in size]
    return math.prod(left) < 0.5


def winograd_convolution(x: Any, kernel: Any, stride: int, dilation: int) -> Any | None:
    """A 3x3 convolution of large maps for `folded_into`, or None if it wouldn't be faster.

    It uses only operations that every runtime of TensorFlow graphs has. The kernel is transformed
    in the graph, so that a file stores its nine taps instead of their 49 combinations; this takes a
    tenth of the convolution's time for one image.

    Args:
        x: (batch, height, width, channels), height and width known.
        kernel: (rows, columns, channels, filters).
    """
    size = x.shape[1:3]
    if None in size or not pays(kernel.shape, size, stride, dilation):
        return None
    rows, columns = (axis(n, dilation) for n in size)
    matrices, parts = kernel_matrix(rows, columns), []
    taps = ops.reshape(kernel, (1, 9, -1))
    latest = x
    for start in range(0, len(matrices), _COLUMNS):
        group = slice(start, start + _COLUMNS)
        matrix = matrices[group].reshape(1, -1, 9).astype("float32")
        # Unchanged, but known only now: otherwise runtimes transform the kernels of all layers
        # first and keep them.
        number = ops.reshape(ops.slice(latest, [0] * 4, [1] * 4), (1, 1, 1))
        matrix = ops.minimum(matrix, 1e30 + number)
        latest = _columns(x, ops.matmul(matrix, taps), kernel.shape, rows, columns.inputs[group])
        parts.append(latest)
    return _product(columns.outputs.reshape(size[1], -1), ops.concatenate(parts, axis=2))


def _columns(x, weights, kernel_shape, rows, columns_in):
    """(batch, height, columns of the tiles, filters) for some columns of each tile."""
    channels, filters = kernel_shape[2:]
    (n, tiles, height), (group, across, width) = rows.inputs.shape, columns_in.shape
    batch = ops.shape(x)[0]
    y = _product(columns_in.reshape(-1, width), x)
    y = _product(rows.inputs.reshape(-1, height), ops.reshape(y, (batch, height, -1)))
    y = ops.reshape(y, (batch, n, tiles, group, across, channels))
    y = ops.reshape(ops.transpose(y, (3, 1, 0, 2, 4, 5)), (group * n, -1, channels))
    y = ops.matmul(y, ops.reshape(weights, (group * n, channels, filters)))
    y = ops.reshape(y, (group, n, batch, tiles, across, filters))
    y = ops.reshape(ops.transpose(y, (2, 1, 3, 0, 4, 5)), (batch, n * tiles, -1))
    y = _product(rows.outputs.reshape(height, -1), y)
    return ops.reshape(y, (batch, height, group * across, filters))


def _product(matrix, x):
    """Applies (target, size) to the second last axis of (..., size, channels).

    As a product of arrays with the same rank, in which TFLite needs no transposition.
    """
    matrix = np.asarray(matrix, "float32")
    return ops.matmul(matrix.reshape((1,) * (len(x.shape) - 2) + matrix.shape), x)


def _multiplications(size, dilation, outputs):
    """Multiplications along one axis; the convolution itself needs 3 * size."""
    tiles = min(dilation, size) * -(-size // dilation // outputs)
    return tiles * (outputs + 2)
