"""Softmax cross-entropy at the mask's size, computed from logits at stride 8."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import (
    checked_choice,
    checked_class_weights,
    checked_integer,
    checked_mining,
    checked_string,
)
from keras_psp.layers.chunks import RowChunks, map_images, row_index
from keras_psp.layers.labels import integer_labels

# Halvings in the search for the loss of the k-th hardest pixel. float32 losses below log(2)
# are 2**-24 apart and larger ones further, so this distinguishes any two of them.
HALVINGS = 40


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledCrossentropy(keras.losses.Loss):
    """Upsampling, softmax cross-entropy and an ignored label in one pass.

    Equal to bilinear upsampling of the logits to the mask's size followed by the mean softmax
    cross-entropy over all pixels that are not ignored (torch's
    `CrossEntropyLoss(ignore_index=255)`, as in semseg). The upsampled logits are computed a few
    rows at a time, with the gradient in the same pass, so that they take only a few megabytes.

    Two options help classes and pixels that count too little in a plain mean:

    - Class weights, as in torch's `CrossEntropyLoss(weight=...)`: a weighted mean, divided by
      the sum of the weights of all pixels that are not ignored.
    - Online hard example mining (OHEM), as in mmsegmentation's `OHEMPixelSampler`: in training,
      only the hardest pixels of a batch have a loss. The divisor still covers all pixels that
      are not ignored, as in mmsegmentation's `CrossEntropyLoss(avg_non_ignore=True)`, whose
      default also counts the ignored pixels. Each call mines on its own: the heads of a
      `PSPNet` have different hard pixels, and under a `tf.distribute` strategy each replica
      mines its part of the batch.

    Args:
        ignore_class: label to ignore, or None.
        class_weights: one non-negative factor per class, or None; see also
            `keras_psp.losses.median_frequency_weights`.
        hard_pixels: number of pixels per image to keep, or None for no mining
            (mmsegmentation's `min_kept`, 100,000 there). The hardest hard_pixels * batch pixels
            are chosen from the whole batch.
        hard_threshold: mmsegmentation's `thresh` (0.7 in its documentation). If set, the
            hardest pixels are those whose label has the lowest probability; all below the
            threshold are kept, and at least `hard_pixels`. If None, the hardest pixels are
            those with the largest loss, class weight included, and only `hard_pixels` of them
            are kept (more in case of a tie).
        align_corners: how to upsample the logits. None uses the setting of the `PSPNet` that
            the loss is compiled into, and True elsewhere.
        chunk_elements: class scores in memory at a time; None for as many as suit the device
            (see `keras_psp.layers.chunks.block_elements`).

    Call arguments:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: (batch, h, w, num_classes) logits of any spatial size.
        sample_weight: None, (batch,) or (batch, height, width) factors of the pixels' losses.
            They affect neither mining nor the divisor, as in
            `keras.losses.SparseCategoricalCrossentropy(ignore_class=...)`.

    Returns:
        A scalar: 0 if every pixel is ignored or has class weight 0; NaN on every backend if a
        label is neither a class nor ignored. Under a `tf.distribute` strategy, the mean is
        over the pixels of all replicas.

    Raises:
        ValueError: if the masks are not (batch, height, width) labels, a float mask holds a value
            that is no whole number, or an argument is invalid.

    Example:
        loss = UpsampledCrossentropy(ignore_class=255)
        masks = np.zeros((1, 473, 473), "int32")
        loss(masks, keras.random.normal((1, 60, 60, 21)))
    """

    def __init__(
        self,
        *,
        ignore_class: int | None = 255,
        class_weights: Sequence[float] | None = None,
        hard_pixels: int | None = None,
        hard_threshold: float | None = None,
        align_corners: bool | None = None,
        chunk_elements: int | None = None,
        name: str = "crossentropy",
    ):
        super().__init__(name=checked_string("name", name))
        if ignore_class is not None:
            ignore_class = checked_integer("ignore_class", ignore_class)
        self.ignore_class = ignore_class
        self.class_weights = checked_class_weights(class_weights)
        self.hard_pixels, self.hard_threshold = checked_mining(hard_pixels, hard_threshold)
        self.align_corners = checked_choice("align_corners", align_corners, (None, True, False))
        if chunk_elements is not None:
            chunk_elements = checked_integer("chunk_elements", chunk_elements, least=1)
        self.chunk_elements = chunk_elements

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        return self.value(y_true, y_pred, sample_weight, training=True)

    def value(
        self, y_true: Any, y_pred: Any, sample_weight: Any | None = None, *, training: bool = False
    ) -> Any:
        """Computes the loss, by default for evaluation.

        Evaluation uses the class weights but no mining, which would make the losses of two
        networks incomparable, and doesn't compute the gradient.
        """
        labels = _labels(y_true, y_pred)
        logits = ops.convert_to_tensor(y_pred)
        if keras.backend.standardize_dtype(logits.dtype) != "float64":
            logits = ops.cast(logits, "float32")
        classes = logits.shape[-1]
        valid = ops.ones_like(labels, dtype="bool")
        if self.ignore_class is not None:
            valid = labels != self.ignore_class
        weights = ops.cast(valid, logits.dtype)
        if self.class_weights is not None:
            if len(self.class_weights) != classes:
                raise ValueError(
                    f"class_weights has {len(self.class_weights)} entries but the logits have "
                    f"{classes} classes; give one per class."
                )
            factors = ops.convert_to_tensor(self.class_weights, dtype=logits.dtype)
            weights = weights * ops.take(factors, ops.clip(labels, 0, classes - 1))
        divisor = _all_replicas_sum(ops.sum(weights))
        if training and self.hard_pixels is not None:
            hard = self._hard(logits, labels, valid, weights)
            weights = weights * ops.cast(hard, logits.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), logits.dtype)
            if len(sample_weight.shape) == 4:
                sample_weight = ops.squeeze(sample_weight, axis=-1)
            missing = 3 - len(sample_weight.shape)
            weights = weights * sample_weight[(..., *[None] * missing)]
        bad = ops.logical_and(valid, ops.logical_or(labels < 0, labels >= classes))
        total = self._weighted_sum(logits, labels, weights, training)
        total = ops.where(ops.any(bad), ops.cast(float("nan"), total.dtype), total)
        return total / ops.where(divisor > 0, divisor, ops.ones_like(divisor))

    def _hard(self, logits, labels, valid, weights):
        """(batch, height, width) bool: the pixels that mining keeps."""
        losses = self._pixel_losses(ops.stop_gradient(logits), labels)
        if self.hard_threshold is None:
            losses = losses * weights
        losses = ops.where(valid, losses, ops.cast(-2.0, losses.dtype))
        batch, height, width = ops.shape(labels)
        count = ops.sum(ops.cast(valid, "int32"))
        # At most all pixels, because the product must fit int32.
        most = ops.cast(ops.minimum(self.hard_pixels, height * width), "int32") * batch
        if self.hard_threshold is None:
            low, _ = _search(losses, ops.minimum(most, count) - 1, -1.0, ops.max(losses))
            return losses > low
        # A probability below the threshold is a loss above -log(threshold). Like mmsegmentation,
        # this drops the easiest pixel even if there are at most `most` valid pixels.
        easy = -math.log(self.hard_threshold)
        _, high = _search(losses, ops.minimum(most, count - 1), 0.0, easy)
        return losses > high

    def _pixel_losses(self, logits, labels):
        """Cross-entropies, (batch, height, width)."""
        chunks, labels = self._chunks(logits, labels)

        def image_losses(inputs):
            image, image_labels = inputs

            def step(index, losses):
                scores, _ = chunks.block(image, index)
                label = chunks.rows_of(image_labels, index)
                block, *_ = _crossentropies(scores, label, chunks.channels)
                return ops.slice_update(losses, row_index(index * chunks.rows, 2), block)

            losses = ops.zeros((chunks.count * chunks.rows, chunks.target_width), image.dtype)
            return ops.fori_loop(0, chunks.count, step, losses)

        dtype = keras.backend.standardize_dtype(logits.dtype)
        return map_images(image_losses, (logits, labels), dtypes=dtype)[:, : chunks.target_height]

    def _chunks(self, logits, *maps):
        """Blocks of rows, and the pixel maps zero-padded to the end of the last block."""
        height, width = ops.shape(maps[0])[1:3]
        chunks = RowChunks(
            ops.shape(logits)[1:],
            (height, width),
            align_corners=self.align_corners is not False,
            elements=self.chunk_elements,
        )
        padding = [[0, 0], [0, chunks.count * chunks.rows - height], [0, 0]]
        return chunks, *(ops.pad(values, padding) for values in maps)

    def _weighted_sum(self, logits, labels, weights, differentiable):
        """Sum of weights * cross-entropy over all pixels."""
        chunks, labels, weights = self._chunks(logits, labels, weights)
        dtype = keras.backend.standardize_dtype(logits.dtype)

        def image_sum(inputs):
            image, image_labels, image_weights = inputs

            def step(index, carry):
                scores, position = chunks.block(image, index)
                label = chunks.rows_of(image_labels, index)
                weight = chunks.rows_of(image_weights, index)
                losses, exponentials, normalizer, chosen = _crossentropies(
                    scores, label, chunks.channels
                )
                loss = ops.sum(weight * losses)
                if not differentiable:
                    return carry + loss
                scaled = exponentials * (weight[..., None] / normalizer)
                slope = ops.where(chosen, scaled - weight[..., None], scaled)
                return carry[0] + loss, chunks.transpose(slope, position, carry[1])

            zero = ops.zeros((), image.dtype)
            start = (zero, ops.zeros_like(image)) if differentiable else zero
            return ops.fori_loop(0, chunks.count, step, start)

        if not differentiable:
            return ops.sum(map_images(image_sum, (logits, labels, weights), dtypes=dtype))

        # The sum's gradient is the upstream scalar times a map that depends only on the logits.
        # The forward pass computes this map and keeps nothing else.
        @ops.custom_gradient
        def weighted_sum(logits):
            inputs = (logits, labels, weights)
            sums, gradients = map_images(image_sum, inputs, dtypes=(dtype, dtype))

            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                return upstream * gradients

            return ops.sum(sums), gradient

        return weighted_sum(logits)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ignore_class": self.ignore_class,
            "class_weights": self.class_weights,
            "hard_pixels": self.hard_pixels,
            "hard_threshold": self.hard_threshold,
            "align_corners": self.align_corners,
            "chunk_elements": self.chunk_elements,
        }


def _labels(y_true, y_pred):
    """Integer labels (batch, height, width), checked."""
    if isinstance(y_pred, dict):
        raise ValueError(
            f"y_pred is a dict of {', '.join(y_pred)}, which a PSPNet returns with training=True; "
            "call model.compute_loss(x, y, y_pred), which weights the auxiliary head, or give "
            "y_pred['logits']."
        )
    labels = integer_labels(y_true)
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
    return labels


def _crossentropies(scores, label, classes):
    """Cross-entropies of a block (rows, width, classes) and the terms of their gradient."""
    scores = scores - ops.max(scores, axis=-1, keepdims=True)
    exponentials = ops.exp(scores)
    normalizer = ops.sum(exponentials, axis=-1, keepdims=True)
    # As floats: TensorFlow compares int32 on the CPU, also where everything else is on a GPU.
    numbers = ops.arange(classes, dtype=scores.dtype)
    chosen = ops.cast(label, scores.dtype)[..., None] == numbers
    picked = ops.sum(ops.where(chosen, scores, 0.0), axis=-1)
    return ops.log(normalizer[..., 0]) - picked, exponentials, normalizer, chosen


def _search(losses, rank, low, high):
    """Close bounds of the loss that is exceeded by `rank` others, or of `high` if it is lower.

    More than `rank` losses are above the first bound, and at most `rank` above the second.
    Halving takes a tenth of the time of sorting millions of pixels.
    """

    def step(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        above = ops.cast(ops.count_nonzero(losses > middle), "int32") > rank
        return ops.where(above, middle, low), ops.where(above, high, middle)

    start = (ops.cast(low, losses.dtype), ops.cast(high, losses.dtype))
    return ops.fori_loop(0, HALVINGS, step, start)


def _all_replicas_sum(count):
    """The sum over replicas, so that a replica with mostly ignored pixels counts for little."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return count
