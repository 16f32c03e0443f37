"""Winograd's minimal filtering for 3x3 convolutions, as small matrices (Lavin, Gray 2016).

Five outputs of a convolution with three taps need seven multiplications instead of 15; in two
dimensions, 25 outputs need 49 instead of 225. The additions before and after are linear maps along
the rows and the columns, like pooling and resizing in `keras_psp.layers.resampling`; dilation only
changes which pixels a tile takes. For inference in float32.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

OUTPUTS = (4, 5)
"""Outputs per tile along one axis. More would lose more digits than they save time."""

# Where polynomials are evaluated, besides infinity: of small fractions, those with the least error.
_POINTS = (0, 1, -1, -2, 1 / 2, -1 / 2)

# With fewer channels the additions cost more than the multiplications that they save.
_LEAST_CHANNELS = 256


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
    count = _outputs(size, dilation)
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
    """Whether this is faster than the convolution itself, by measurement on CPUs.

    Args:
        kernel_shape: (rows, columns, channels, filters).
        size: height and width of the map.
    """
    if tuple(kernel_shape[:2]) != (3, 3) or stride > 1 or min(kernel_shape[2:]) < _LEAST_CHANNELS:
        return False
    left = [_multiplications(n, dilation, _outputs(n, dilation)) / (3 * n) for n in size]
    return math.prod(left) < 0.5


def _outputs(size, dilation):
    return min(OUTPUTS, key=lambda outputs: _multiplications(size, dilation, outputs))


def _multiplications(size, dilation, outputs):
    """Multiplications along one axis; the convolution itself needs 3 * size."""
    tiles = min(dilation, size) * -(-size // dilation // outputs)
    return tiles * (outputs + 2)
