"""Upsampled logits in blocks of rows.

The scores of 150 classes at 473x473 pixels take 134 MB per image in float32, and are the largest
tensors of a training step. Code that needs each pixel only once (a loss, an argmax) upsamples the
logits block by block instead, each small enough for the CPU's cache.

In a block, the classes are the middle axis. On a CPU, TensorFlow's operations along the last axis
are slow if that axis is short, as with few classes, and XLA's are slow along the first one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.layers.devices import on_accelerator
from keras_psp.layers.resampling import (
    interpolation_matrix,
    interpolation_weights,
    source_position,
)


def block_elements() -> int:
    """Number of class scores to hold in memory at a time.

    On a CPU they should fit in its cache: 4 MB of float32, and a few temporaries of that size. On
    a GPU, where each block costs a few dozen kernel launches, 64 MB.
    """
    return 2**24 if on_accelerator() else 2**20


class RowChunks:
    """Bilinearly upsamples one image's logits in `count` blocks of `rows` rows.

    The last block extends past the end of the image. `source`, the logits' (height, width,
    classes), and `size`, (height, width), are ints or integer scalar tensors. A block has at
    most `elements` class scores (by default `block_elements()`), or one row.
    """

    def __init__(
        self,
        source: Sequence,
        size: Sequence,
        *,
        align_corners: bool,
        elements: int | None = None,
    ):
        self.height, self.width, self.classes = source
        self.target_height, self.target_width = size
        self.align_corners = align_corners
        static = all(isinstance(n, int) for n in (*source, *size))
        smaller, larger = (min, max) if static else (ops.minimum, ops.maximum)
        elements = block_elements() if elements is None else elements
        most = larger(elements // (self.target_width * self.classes), 1)
        most = smaller(most, self.target_height)
        self.count = (self.target_height + most - 1) // most
        self.rows = (self.target_height + self.count - 1) // self.count
        # Input rows that a block can use: the span of its positions plus one on each side.
        if align_corners:
            gaps = larger(self.target_height - 1, 1)
            span = ((self.rows - 1) * (self.height - 1) + gaps - 1) // gaps
        else:
            span = ((self.rows - 1) * self.height + self.target_height - 1) // self.target_height
        self.window = smaller(span + 3, self.height)
        self.columns = interpolation_matrix(
            self.width, self.target_width, align_corners=align_corners
        )

    def block(self, logits: Any, index: Any) -> tuple[Any, Any]:
        """Scores (rows, classes, target width) of a block, and its position for `transpose`."""
        # PyTorch's loops count in Python: with tensors, each slice would wait for the GPU.
        known = isinstance(index, int)
        numbers: Any = np if known else ops
        first = (index if known else ops.cast(index, "int32")) * self.rows
        numerator, denominator = source_position(
            first + numbers.arange(self.rows, dtype="int32"),
            self.height,
            self.target_height,
            self.align_corners,
        )
        start = numbers.maximum(numerator[0] // denominator - 1, 0)
        start = numbers.minimum(start, self.height - self.window)
        near = start + numbers.arange(self.window, dtype="int32")
        rows = interpolation_weights(numerator, denominator, near)
        start = int(start) if known else start
        rows = ops.cast(rows, logits.dtype)
        window = ops.transpose(self._window(logits, start), (0, 2, 1))
        # Columns first: the intermediate result then has the few input rows.
        columns = ops.transpose(ops.cast(self.columns, logits.dtype))
        return ops.tensordot(rows, ops.matmul(window, columns), 1), (start, rows)

    def rows_of(self, values: Any, index: Any) -> Any:
        """The rows of a block in a map of pixels, (rows, 1, target width)."""
        shape = (self.rows, self.target_width)
        return ops.slice(values, row_index(index * self.rows, 2), shape)[:, None]

    def transpose(self, upstream: Any, position: Any, total: Any) -> Any:
        """`total`, the gradient of the logits, plus the gradient through one block's scores."""
        start, rows = position
        window = ops.tensordot(ops.transpose(rows), upstream, 1)
        window = ops.matmul(window, ops.cast(self.columns, window.dtype))
        window = self._window(total, start) + ops.transpose(window, (0, 2, 1))
        return ops.slice_update(total, row_index(start, 3), window)

    def _window(self, values, start):
        """The input rows of a block in the logits or their gradient."""
        return ops.slice(values, row_index(start, 3), (self.window, self.width, self.classes))


def row_index(start: Any, rank: int) -> tuple:
    """Start indices of a block of rows for `ops.slice`, all int32 because JAX needs one dtype."""
    if isinstance(start, int):
        return (start, *[0] * (rank - 1))
    start = ops.cast(start, "int32")
    return (start, *[ops.zeros((), "int32")] * (rank - 1))


def map_images(function: Callable, inputs: Any, *, dtypes: Any) -> Any:
    """Applies a function to one image (or block) at a time and stacks the results."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # keras.ops.map would run the first image twice, and ten images at a time.
        return tf.map_fn(function, inputs, fn_output_signature=dtypes, parallel_iterations=1)
    return ops.map(function, inputs)


def upsampled_classes(
    logits: Any, size: Sequence[Any], *, align_corners: bool, elements: int | None = None
) -> Any:
    """Upsamples logits (batch, h, w, classes) bilinearly and takes each pixel's best class.

    Returns int32 class ids (batch, *size) without all scores in memory at once; the size may
    be ints or integer scalar tensors.
    """
    logits = ops.cast(logits, "float32")
    chunks = RowChunks(ops.shape(logits)[1:], size, align_corners=align_corners, elements=elements)

    def classes(image):
        def block(index):
            scores, _ = chunks.block(image, index)
            return ops.cast(ops.argmax(scores, axis=1), "int32")

        # `ops.slice_update` into one map would need XLA in a SavedModel, which TensorFlow
        # Serving disables (tensorflow/serving #2217).
        blocks = map_images(block, ops.arange(chunks.count, dtype="int32"), dtypes="int32")
        return ops.reshape(blocks, (chunks.count * chunks.rows, size[1]))

    return map_images(classes, logits, dtypes="int32")[:, : size[0]]
