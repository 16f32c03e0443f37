"""Winograd's minimal filtering for 3x3 convolutions, as small matrices (Lavin, Gray 2016).

Four outputs of a convolution with three taps need six multiplications instead of twelve; in two
dimensions, 16 outputs need 36 instead of 144. The additions before and after are linear maps along
the rows and the columns, like pooling and resizing in `keras_psp.layers.resampling`; dilation only
changes which pixels a tile takes. For inference: weights are transformed in advance.
"""

import numpy as np

OUTPUTS = 4
"""Outputs per tile along one axis."""
MULTIPLICATIONS = OUTPUTS + 2

# Section 4.3 of the paper: output @ ((weights @ kernel) * (input @ x)) convolves one tile.
INPUT = np.array(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
WEIGHTS = np.array([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
OUTPUT = np.array(
    [[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)


def axis_matrices(size: int, dilation: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps along one axis of a zero-padded convolution, over all tiles.

    A dilated convolution is an ordinary one over every `dilation`-th pixel, for each offset.
    Returns input (6, tiles, size) and output (size, 6, tiles), float64.
    """
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
                inputs[:, tile, phase + pixel * dilation] = INPUT[:, column]
        for row in range(min(OUTPUTS, length - start)):
            outputs[phase + (start + row) * dilation, :, tile] = OUTPUT[row]
    return inputs, outputs


def kernel_matrix() -> np.ndarray:
    """Maps a kernel's nine taps to 36 weights: (6 columns, 6 rows, 9), float64."""
    return np.einsum("ri,cj->crij", WEIGHTS, WEIGHTS).reshape(MULTIPLICATIONS, MULTIPLICATIONS, 9)


def multiplications(size: int, dilation: int) -> int:
    """Multiplications along one axis; the plain convolution needs 3 * size."""
    return MULTIPLICATIONS * axis_matrices(size, dilation)[0].shape[1]
