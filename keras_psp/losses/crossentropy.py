"""Softmax cross-entropy at the mask's size, straight from logits at stride 8."""

import keras
from keras import ops

from keras_psp.layers.chunks import CHUNK_ELEMENTS, RowChunks, map_images, row_index


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledCrossentropy(keras.losses.Loss):
    """Upsampling, softmax cross-entropy and an ignored label in one pass.

    Equal to bilinear upsampling of the logits to the mask's size and the mean softmax
    cross-entropy over the pixels that are not ignored (torch's
    `CrossEntropyLoss(ignore_index=255)`, as in semseg), but the upsampled logits are
    made a few rows at a time, and the gradient in the same pass, so their memory is
    a fixed few megabytes.

    Args:
        ignore_class: label left out of the mean, or None.
        align_corners: how the logits are upsampled. None takes the model's own setting
            when compiled into a `PSPNet`, and True elsewhere.
        chunk_elements: class scores held at a time.

    Call arguments:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: (batch, h, w, num_classes) logits; h and w need not be height and width.
        sample_weight: None, (batch,) or (batch, height, width): factors of the pixels'
            losses; the divisor stays the number of pixels not ignored, as in
            `keras.losses.SparseCategoricalCrossentropy(ignore_class=...)`.

    Returns:
        A scalar. 0 where every pixel is ignored. NaN, on every backend, where a label
        is neither a class nor ignored. Under a `tf.distribute` strategy the mean is
        over the pixels of all replicas together.

    Raises:
        ValueError: for masks that are not (batch, height, width) labels.
    """

    def __init__(
        self,
        *,
        ignore_class: int | None = 255,
        align_corners: bool | None = None,
        chunk_elements: int = CHUNK_ELEMENTS,
        name: str = "crossentropy",
    ):
        super().__init__(name=name)
        self.ignore_class = ignore_class
        self.align_corners = align_corners
        self.chunk_elements = chunk_elements

    def __call__(self, y_true, y_pred, sample_weight=None):
        return self.value(y_true, y_pred, sample_weight, differentiable=True)

    def value(self, y_true, y_pred, sample_weight=None, *, differentiable=False):
        """The loss; `differentiable=False` spares the work for the gradient."""
        labels = _labels(y_true, y_pred)
        logits = ops.convert_to_tensor(y_pred)
        if keras.backend.standardize_dtype(logits.dtype) != "float64":
            logits = ops.cast(logits, "float32")
        valid = ops.ones_like(labels, dtype="bool")
        if self.ignore_class is not None:
            valid = labels != self.ignore_class
        weights = ops.cast(valid, logits.dtype)
        count = _all_replicas_sum(ops.sum(weights))
        if sample_weight is not None:
            sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), logits.dtype)
            if len(sample_weight.shape) == 4:
                sample_weight = ops.squeeze(sample_weight, axis=-1)
            missing = 3 - len(sample_weight.shape)
            weights = weights * sample_weight[(..., *[None] * missing)]
        classes = logits.shape[-1]
        bad = ops.logical_and(valid, ops.logical_or(labels < 0, labels >= classes))
        total = self._weighted_sum(logits, labels, weights, differentiable)
        total = ops.where(ops.any(bad), ops.cast(float("nan"), total.dtype), total)
        return total / ops.maximum(count, 1.0)

    def _weighted_sum(self, logits, labels, weights, differentiable):
        """Sum of weights * cross-entropy over all pixels."""
        height, width = ops.shape(labels)[1:3]
        source = ops.shape(logits)[1:]
        chunks = RowChunks(
            source,
            (height, width),
            align_corners=self.align_corners is not False,
            elements=self.chunk_elements,
        )
        # The last block runs over the end: labels there weigh nothing.
        dtype = keras.backend.standardize_dtype(logits.dtype)
        padding = [[0, 0], [0, chunks.count * chunks.rows - height], [0, 0]]
        labels = ops.pad(labels, padding)
        weights = ops.pad(weights, padding)

        def image_sum(inputs, with_gradient):
            image, image_labels, image_weights = inputs

            def step(index, carry):
                scores, position = chunks.block(image, index)
                first = row_index(index * chunks.rows, 2)
                block = (chunks.rows, width)
                label = ops.slice(image_labels, first, block)
                weight = ops.slice(image_weights, first, block)
                scores = scores - ops.max(scores, axis=-1, keepdims=True)
                exponentials = ops.exp(scores)
                normalizer = ops.sum(exponentials, axis=-1, keepdims=True)
                chosen = label[..., None] == ops.arange(chunks.channels, dtype="int32")
                picked = ops.sum(ops.where(chosen, scores, 0.0), axis=-1)
                loss = ops.sum(weight * (ops.log(normalizer[..., 0]) - picked))
                if not with_gradient:
                    return carry + loss
                scaled = exponentials * (weight[..., None] / normalizer)
                slope = ops.where(chosen, scaled - weight[..., None], scaled)
                return carry[0] + loss, chunks.transpose(slope, position, carry[1])

            zero = ops.zeros((), image.dtype)
            start = (zero, ops.zeros_like(image)) if with_gradient else zero
            return ops.fori_loop(0, chunks.count, step, start)

        if not differentiable:
            sums = map_images(
                lambda inputs: image_sum(inputs, False),
                (logits, labels, weights),
                dtypes=dtype,
            )
            return ops.sum(sums)

        # The sum's gradient is the upstream scalar times a map that depends on the
        # logits alone, so it is made in the forward pass and nothing is kept but that.
        @ops.custom_gradient
        def weighted_sum(logits):
            sums, gradients = map_images(
                lambda inputs: image_sum(inputs, True),
                (logits, labels, weights),
                dtypes=(dtype, dtype),
            )

            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                return upstream * gradients

            return ops.sum(sums), gradient

        return weighted_sum(logits)

    def get_config(self):
        return {
            "name": self.name,
            "ignore_class": self.ignore_class,
            "align_corners": self.align_corners,
            "chunk_elements": self.chunk_elements,
        }


def _labels(y_true, y_pred):
    """Integer labels (batch, height, width), or an error that says what is wrong."""
    labels = ops.convert_to_tensor(y_true)
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != 3:
        raise ValueError(
            f"y_true has shape {tuple(labels.shape)}; masks must be (batch, height, width) "
            "integer labels, not one-hot."
        )
    if len(y_pred.shape) != 4:
        raise ValueError(
            f"y_pred has shape {tuple(y_pred.shape)}; logits must be "
            "(batch, height, width, num_classes)."
        )
    return ops.cast(labels, "int32")


def _all_replicas_sum(count):
    """Pixels of all replicas, so that a replica of mostly void counts for little."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return count
