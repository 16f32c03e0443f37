"""Upsampled logits a few rows at a time.

150 classes at 473x473 are 134 MB an image in float32, a training step's largest
tensors. Whatever only needs each pixel once (a loss, an argmax) gets them here in
blocks of rows that fit a cache, from the map at output stride 8.
"""

import keras
from keras import ops

from keras_psp.layers.resampling import (
    apply_columns,
    apply_rows,
    interpolation_matrix,
    interpolation_weights,
    source_position,
)

# Class scores held at a time: 4 MB of float32 and a few temporaries of that size.
CHUNK_ELEMENTS = 2**20


class RowChunks:
    """Blocks of rows of one image's logits, upsampled bilinearly.

    Args:
        source: (height, width, channels) of the logits, ints or integer scalars.
        size: (height, width) to upsample to, likewise.
        align_corners: see `keras_psp.layers.resampling.source_position`.
        elements: upper bound of class scores in a block, except that a block has at
            least one row.

    Attributes:
        count: number of blocks.
        rows: rows in a block; the last block runs over the end of the image.
    """

    def __init__(self, source, size, *, align_corners, elements=CHUNK_ELEMENTS):
        self.height, self.width, self.channels = source
        self.target_height, self.target_width = size
        self.align_corners = align_corners
        static = all(isinstance(n, int) for n in (*source, *size))
        smaller, larger = (min, max) if static else (ops.minimum, ops.maximum)
        most = larger(elements // (self.target_width * self.channels), 1)
        self.rows = smaller(most, self.target_height)
        self.count = (self.target_height + self.rows - 1) // self.rows
        # Input rows that a block can touch: the span of its positions and one on each side.
        if align_corners:
            gaps = larger(self.target_height - 1, 1)
            span = ((self.rows - 1) * (self.height - 1) + gaps - 1) // gaps
        else:
            span = ((self.rows - 1) * self.height + self.target_height - 1) // self.target_height
        self.window = smaller(span + 3, self.height)
        self.columns = interpolation_matrix(
            self.width, self.target_width, align_corners=align_corners
        )

    def block(self, logits, index):
        """Block `index` of logits (height, width, channels).

        Returns:
            scores (rows, target width, channels), and what `transpose` needs.
        """
        first = ops.cast(index, "int32") * self.rows
        numerator, denominator = source_position(
            first + ops.arange(self.rows, dtype="int32"),
            self.height,
            self.target_height,
            self.align_corners,
        )
        start = ops.minimum(
            ops.maximum(numerator[0] // denominator - 1, 0), self.height - self.window
        )
        window = ops.slice(logits, row_index(start, 3), (self.window, self.width, self.channels))
        near = start + ops.arange(self.window, dtype="int32")
        rows = interpolation_weights(numerator, denominator, near)
        scores = apply_rows(rows, apply_columns(self.columns, window)[None])[0]
        return scores, (start, rows)

    def transpose(self, upstream, position, total):
        """Add the gradient of a block's scores to `total`, the gradient of the logits."""
        start, rows = position
        window = apply_rows(ops.transpose(rows), upstream[None])[0]
        window = apply_columns(ops.transpose(ops.convert_to_tensor(self.columns)), window)
        own = ops.slice(total, row_index(start, 3), (self.window, self.width, self.channels))
        return ops.slice_update(total, row_index(start, 3), own + window)


def row_index(start, rank):
    """Start of a block of rows for `ops.slice`, all int32 as JAX wants them alike."""
    start = ops.cast(start, "int32")
    return (start, *[ops.zeros((), "int32")] * (rank - 1))


def map_images(function, inputs, *, dtypes):
    """`function` on one image of the batch, or block, after the other, results stacked."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # keras.ops.map would run the first twice and ten at a time.
        return tf.map_fn(function, inputs, fn_output_signature=dtypes, parallel_iterations=1)
    return ops.map(function, inputs)


def upsampled_classes(logits, size, *, align_corners, elements=CHUNK_ELEMENTS):
    """Upsample logits bilinearly and take each pixel's best class.

    The scores at full size are never held together.

    Args:
        logits: (batch, h, w, classes).
        size: (height, width) of the result, ints or integer scalars.
        align_corners: see `keras_psp.layers.resampling.source_position`.
        elements: class scores held at a time.

    Returns:
        (batch, height, width) int32 class ids.
    """
    logits = ops.cast(logits, "float32")
    chunks = RowChunks(ops.shape(logits)[1:], size, align_corners=align_corners, elements=elements)

    def classes(image):
        def block(index):
            scores, _ = chunks.block(image, index)
            return ops.cast(ops.argmax(scores, axis=-1), "int32")

        # Written into one map by `ops.slice_update` they would need XLA in a SavedModel, which
        # TensorFlow Serving has switched off (tensorflow/serving #2217).
        blocks = map_images(block, ops.arange(chunks.count, dtype="int32"), dtypes="int32")
        return ops.reshape(blocks, (chunks.count * chunks.rows, size[1]))

    return map_images(classes, logits, dtypes="int32")[:, : size[0]]
