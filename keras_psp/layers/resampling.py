"""Resizing and pooling as small matrix products.

Bilinear resizing and adaptive average pooling are linear and separable: each is one small
matrix applied to the rows and one applied to the columns. In this form they run on every
backend, for static and dynamic sizes and both corner alignments, and export to plain matrix
multiplications. (`keras.ops.image.resize` has no `align_corners` and fails on dynamic sizes in
Keras 3.14 to 3.15.1; `keras.layers.AdaptiveAveragePooling2D` needs static sizes.)
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.arguments import checked_flag


def spatial_size(x: Any) -> tuple[Any, Any]:
    """Height and width of (batch, height, width, ...): ints, or scalar tensors if dynamic."""
    return ops.shape(x)[1], ops.shape(x)[2]


def _array_module(*sizes):
    """NumPy for static sizes (the matrix becomes a constant), else keras.ops."""
    return np if all(isinstance(size, int | np.integer) for size in sizes) else ops


def source_position(index: Any, size: Any, target: Any, align_corners: bool) -> tuple[Any, Any]:
    """Positions of output pixels on the input grid, as exact fractions.

    Integers, because float32 positions lose the last digits of the interpolation weights on
    large maps (1000 * 1e-7 is 1e-4 of a pixel).

    Args:
        index: integer array of output positions.
        size: input length.
        target: output length.
        align_corners: True aligns the centers of the corner pixels (semseg, Caffe), False
            their outer corners (mmsegmentation).

    Returns:
        (numerator, denominator): position = numerator / denominator, within [0, size - 1].
    """
    if align_corners:
        known = isinstance(target, int | np.integer)
        denominator = max(target - 1, 1) if known else ops.maximum(target - 1, 1)
        numerator = index * (size - 1)
    else:
        denominator = 2 * target
        numerator = (2 * index + 1) * size - target
    clip = np.clip if isinstance(numerator, np.ndarray) else ops.clip
    return clip(numerator, 0, (size - 1) * denominator), denominator


def interpolation_weights(numerator: Any, denominator: Any, columns: Any) -> Any:
    """Bilinear weights of input positions `columns` for outputs at numerator / denominator.

    (len(numerator), len(columns)): float64 for NumPy arrays and float32 for tensors.
    """
    distance = abs(numerator[:, None] - columns[None, :] * denominator)
    if isinstance(distance, np.ndarray):
        return np.maximum(denominator - distance, 0) / denominator
    near = ops.cast(ops.maximum(denominator - distance, 0), "float32")
    return near / ops.cast(denominator, "float32")


def interpolation_matrix(size: Any, target: Any, *, align_corners: bool, shift: int = 0) -> Any:
    """Matrix that resizes a length bilinearly.

    Args:
        size: input length, int or integer scalar tensor.
        target: output length, int or integer scalar tensor.
        align_corners: see `source_position`.
        shift: row i has the weights of output position i + shift, or zeros if that is outside
            the output: resizing followed by one tap of a zero-padded convolution.

    Returns:
        (target, size): a float64 NumPy array if both lengths are ints, else a float32 tensor.
    """
    xp = _array_module(size, target)
    index = xp.arange(target, dtype="int32") + shift
    columns = xp.arange(size, dtype="int32")
    if xp is np:
        # int64 keeps products beyond the int32 range exact.
        index, columns = index.astype("int64"), columns.astype("int64")
    numerator, denominator = source_position(index, size, target, align_corners)
    weights = interpolation_weights(numerator, denominator, columns)
    if shift == 0:
        return weights
    inside = xp.logical_and(index >= 0, index < target)
    return weights * (inside if xp is np else ops.cast(inside, "float32"))[:, None]


def tap_matrices(size: Any, target: Any, taps: int, *, align_corners: bool) -> list[Any]:
    """The `interpolation_matrix` shifted by each tap of a convolution with kernel size `taps`."""
    return [
        interpolation_matrix(size, target, align_corners=align_corners, shift=shift)
        for shift in range(-(taps // 2), taps // 2 + 1)
    ]


def pooling_matrix(size: Any, bins: int) -> Any:
    """Matrix that averages a length into bins with torch's edges.

    Bin i covers [floor(i * size / bins), ceil((i + 1) * size / bins)), so bins overlap if
    the length is not a multiple of their number (torch.nn.AdaptiveAvgPool2d).

    Returns:
        (bins, size): a float64 NumPy array if `size` is an int, else a float32 tensor.
    """
    xp = _array_module(size)
    index = xp.arange(bins, dtype="int32")
    start = (index * size) // bins
    end = ((index + 1) * size + bins - 1) // bins
    columns = xp.arange(size, dtype="int32")
    inside = xp.logical_and(columns[None, :] >= start[:, None], columns[None, :] < end[:, None])
    if xp is np:
        return inside / (end - start)[:, None]
    return ops.cast(inside, "float32") / ops.cast(end - start, "float32")[:, None]


def apply_rows(matrix: Any, x: Any) -> Any:
    """Applies (target, height) along the height of (batch, height, width, channels)."""
    target, height = matrix.shape
    batch, _, width, channels = ops.shape(x)
    target = ops.shape(matrix)[0] if target is None else target
    flat = ops.reshape(x, (batch, ops.shape(x)[1] if height is None else height, width * channels))
    product = ops.matmul(ops.cast(matrix, x.dtype), flat)
    return ops.reshape(product, (batch, target, width, channels))


def apply_columns(matrix: Any, x: Any) -> Any:
    """Applies (target, width) along the width of (batch, height, width, channels)."""
    return ops.matmul(ops.cast(matrix, x.dtype), x)


def resize_bilinear(x: Any, size: Sequence[Any], *, align_corners: bool) -> Any:
    """Bilinear resizing without antialiasing, like torch's `interpolate`.

    Args:
        x: (batch, height, width, channels), float.
        size: (target height, target width), ints or integer scalar tensors.
        align_corners: see `source_position`.

    Returns:
        (batch, target height, target width, channels) in x's dtype.
    """
    height, width = spatial_size(x)
    # Columns first: the intermediate result then has the few input rows.
    x = apply_columns(interpolation_matrix(width, size[1], align_corners=align_corners), x)
    return apply_rows(interpolation_matrix(height, size[0], align_corners=align_corners), x)


def adaptive_max_pool(x: Any, bins: int) -> Any:
    """Max pooling into bins x bins cells with torch's edges, at any size."""
    height, width = spatial_size(x)
    return _max_pool_axis(_max_pool_axis(x, bins, height, axis=1), bins, width, axis=2)


def _max_pool_axis(x, bins, size, *, axis):
    pooled = []
    for i in range(bins):
        start, end = (i * size) // bins, -((-(i + 1) * size) // bins)
        if isinstance(size, int):
            cells = x[:, start:end] if axis == 1 else x[:, :, start:end]
        else:
            # Dynamic length: a mask avoids dynamic slices in the graph.
            position = ops.arange(size, dtype="int32")
            inside = ops.logical_and(position >= start, position < end)
            inside = inside[:, None, None] if axis == 1 else inside[:, None]
            cells = ops.where(inside, x, ops.cast(np.finfo("float16").min, x.dtype))
        pooled.append(ops.max(cells, axis=axis))
    return ops.stack(pooled, axis=axis)


@keras.saving.register_keras_serializable("keras_psp")
class BilinearResize(keras.layers.Layer):
    """Resizes a map bilinearly to the height and width of another.

    Args:
        align_corners: True as in semseg and Caffe, False as in mmsegmentation.

    Input:  [(batch, h, w, channels), reference (batch, height, width, any)].
    Output: (batch, height, width, channels) in the layer's compute dtype.

    Example:
        logits, image = keras.random.normal((1, 8, 8, 21)), keras.random.uniform((1, 60, 60, 3))
        BilinearResize()([logits, image]).shape  # (1, 60, 60, 21)
    """

    def __init__(self, *, align_corners: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.align_corners = checked_flag("align_corners", align_corners)

    def call(self, inputs: Sequence[Any]) -> Any:
        x, reference = inputs
        return resize_bilinear(x, spatial_size(reference), align_corners=self.align_corners)

    def compute_output_shape(self, input_shape: Sequence[tuple]) -> tuple:
        x, reference = input_shape
        return (x[0], reference[1], reference[2], x[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "align_corners": self.align_corners}
