"""Winograd's minimal filtering for 3x3 convolutions, as small matrices (Lavin, Gray 2016).

Four outputs of a convolution of three taps need six multiplications instead of twelve, in two
dimensions 36 instead of 144. The additions before and after are linear maps along the rows and
along the columns, as pooling and resizing are in `keras_psp.layers.resampling`; dilation only
changes which pixels a tile takes. For inference: weights are transformed ahead.
"""

import functools
from fractions import Fraction

import numpy as np

OUTPUTS = 4
"""Outputs of a tile along one axis."""
MULTIPLICATIONS = OUTPUTS + 2
# Where the polynomials are evaluated, besides at infinity; small numbers lose few digits.
_POINTS = (0, 1, -1, 2, -2)


@functools.cache
def transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of one tile: y = output @ ((weights @ kernel) * (input @ x)).

    Returns:
        input (6, 6), weights (6, 3) and output (4, 6), float64, exact up to rounding.
    """
    points = [Fraction(point) for point in _POINTS]
    weights, inputs = [], []
    for index, point in enumerate(points):
        others = points[:index] + points[index + 1 :]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        weights.append([point**power / scale for power in range(3)])
        inputs.append([*_coefficients(others), Fraction(0)])
    weights.append([Fraction(0), Fraction(0), Fraction(1)])
    inputs.append(_coefficients(points))
    outputs = [
        [*(point**row for point in points), Fraction(row == OUTPUTS - 1)] for row in range(OUTPUTS)
    ]
    return np.array(inputs, "float64"), np.array(weights, "float64"), np.array(outputs, "float64")


def _coefficients(roots):
    """Of the polynomial with these roots, the constant first."""
    polynomial = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *polynomial]
        scaled = [-root * c for c in polynomial] + [Fraction(0)]
        polynomial = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return polynomial


def axis_matrices(size: int, dilation: int) -> tuple[np.ndarray, np.ndarray]:
    """The maps along one axis of a zero-padded convolution, over all tiles.

    A dilated convolution is one of every `dilation`-th pixel for each of the first ones.

    Args:
        size: pixels of the axis.
        dilation: of the convolution.

    Returns:
        input (6, tiles, size) and output (size, 6, tiles), float64.
    """
    one_input, _, one_output = transforms()
    tiles = [
        (phase, start, length)
        for phase in range(min(dilation, size))
        for length in [-(-(size - phase) // dilation)]
        for start in range(0, length, OUTPUTS)
    ]
    inputs = np.zeros((MULTIPLICATIONS, len(tiles), size))
    outputs = np.zeros((size, MULTIPLICATIONS, len(tiles)))
    for tile, (phase, start, length) in enumerate(tiles):
        for column in range(MULTIPLICATIONS):
            pixel = start + column - 1
            if 0 <= pixel < length:
                inputs[:, tile, phase + pixel * dilation] = one_input[:, column]
        for row in range(min(OUTPUTS, length - start)):
            outputs[phase + (start + row) * dilation, :, tile] = one_output[row]
    return inputs, outputs


def kernel_matrix() -> np.ndarray:
    """Makes the weights of the 36 multiplications of the nine taps of a kernel.

    Returns:
        (6 of the columns, 6 of the rows, 9), float64.
    """
    _, weights, _ = transforms()
    return np.einsum("ri,cj->crij", weights, weights).reshape(MULTIPLICATIONS, MULTIPLICATIONS, 9)


def multiplications(size: int, dilation: int) -> int:
    """Multiplications along one axis, against 3 * size of the plain convolution."""
    return MULTIPLICATIONS * axis_matrices(size, dilation)[0].shape[1]
