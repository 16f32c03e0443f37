"""Winograd's convolutions as TensorFlow operations that every runtime of its graphs has."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_psp.export.winograd import axis, kernel_matrix, pays

# Columns of a tile at a time. More need more memory for products, fewer for packed operands.
_COLUMNS = 4


def winograd_convolution(x: Any, kernel: Any, stride: int, dilation: int) -> Any | None:
    """A 3x3 convolution of large maps for `folded_into`, or None where it wouldn't pay.

    The kernel is transformed in the graph: a file then stores its nine taps instead of their 49
    combinations. This is a tenth of the convolution's time for one image.

    Args:
        x: (batch, height, width, channels), height and width known.
        kernel: (rows, columns, channels, filters).
    """
    size = x.shape[1:3]
    if None in size or not pays(kernel.shape, size, stride, dilation):
        return None
    rows, columns = (axis(n, dilation) for n in size)
    matrices, parts = kernel_matrix(rows, columns), []
    taps = tf.reshape(kernel, (1, 9, -1))
    latest = x
    for start in range(0, len(matrices), _COLUMNS):
        group = slice(start, start + _COLUMNS)
        matrix = matrices[group].reshape(1, -1, 9).astype("float32")
        # Unchanged, but known only now: otherwise runtimes transform the kernels of all layers
        # first and keep them.
        number = tf.reshape(tf.slice(latest, [0] * 4, [1] * 4), (1, 1, 1))
        matrix = tf.minimum(matrix, 1e30 + number)
        latest = _columns(x, tf.matmul(matrix, taps), kernel.shape, rows, columns.inputs[group])
        parts.append(latest)
    return _product(columns.outputs.reshape(size[1], -1), tf.concat(parts, axis=2))


def _columns(x, weights, kernel_shape, rows, columns_in):
    """(batch, height, columns of the tiles, filters) for some columns of each tile."""
    channels, filters = kernel_shape[2:]
    (n, tiles, height), (group, across, width) = rows.inputs.shape, columns_in.shape
    batch = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
    y = _product(columns_in.reshape(-1, width), x)
    y = _product(rows.inputs.reshape(-1, height), tf.reshape(y, (batch, height, -1)))
    y = tf.reshape(y, (batch, n, tiles, group, across, channels))
    y = tf.reshape(tf.transpose(y, (3, 1, 0, 2, 4, 5)), (group * n, -1, channels))
    y = tf.matmul(y, tf.reshape(weights, (group * n, channels, filters)))
    y = tf.reshape(y, (group, n, batch, tiles, across, filters))
    y = tf.reshape(tf.transpose(y, (2, 1, 3, 0, 4, 5)), (batch, n * tiles, -1))
    y = _product(rows.outputs.reshape(height, -1), y)
    return tf.reshape(y, (batch, height, group * across, filters))


def _product(matrix, x):
    """Applies (target, size) to the second last axis of (..., size, channels).

    As a product of arrays with the same rank, in which TFLite needs no transposition.
    """
    matrix = np.asarray(matrix, "float32")
    return tf.matmul(matrix.reshape((1,) * (len(x.shape) - 2) + matrix.shape), x)
