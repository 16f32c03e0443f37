"""Softmax cross-entropy at the mask's size, straight from logits at stride 8."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_psp.layers.chunks import CHUNK_ELEMENTS, RowChunks, map_images, row_index

# Halvings in the search for the loss of the k-th hardest pixel. float32 losses below
# log(2) are 2**-24 apart and larger ones further, so this tells any two of them apart.
HALVINGS = 40


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledCrossentropy(keras.losses.Loss):
    """Upsampling, softmax cross-entropy and an ignored label in one pass.

    Equal to bilinear upsampling of the logits to the mask's size and the mean softmax
    cross-entropy over the pixels that are not ignored (torch's
    `CrossEntropyLoss(ignore_index=255)`, as in semseg), but the upsampled logits are
    made a few rows at a time, and the gradient in the same pass, so their memory is
    a fixed few megabytes.

    Two options for classes and pixels that count too little in a plain mean:

    - Class weights, as torch's `CrossEntropyLoss(weight=...)`: the weighted mean, divided
      by the sum of the weights of the pixels that are not ignored.
    - Online hard example mining (OHEM), as mmsegmentation's `OHEMPixelSampler`: in
      training only the hardest pixels of a batch have a loss. The divisor stays that of
      all pixels not ignored, as with mmsegmentation's
      `CrossEntropyLoss(avg_non_ignore=True)`; its default also counts the ignored ones.
      Each call mines by itself, so each head of a `PSPNet` has its own hard pixels; under
      a `tf.distribute` strategy each replica mines its part of the batch.

    Args:
        ignore_class: label left out of the mean, or None.
        class_weights: one factor a class, not negative, or None; see also
            `keras_psp.losses.median_frequency_weights`.
        hard_pixels: None, or pixels an image that mining keeps, mmsegmentation's
            `min_kept` (100,000 there): the hardest hard_pixels * batch of the whole batch.
        hard_threshold: mmsegmentation's `thresh` (0.7 in its documentation). With it,
            hardest are those with the smallest probability of their label, and all
            below the threshold are kept, at least hard_pixels. None: hardest by their
            loss, class weight included, and no more than hard_pixels (and equals of the
            last).
        align_corners: how the logits are upsampled. None takes the model's own setting
            when compiled into a `PSPNet`, and True elsewhere.
        chunk_elements: class scores held at a time.

    Call arguments:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: (batch, h, w, num_classes) logits; h and w need not be height and width.
        sample_weight: None, (batch,) or (batch, height, width): factors of the pixels'
            losses; mining and the divisor don't see them, as in
            `keras.losses.SparseCategoricalCrossentropy(ignore_class=...)`.

    Returns:
        A scalar. 0 where every pixel is ignored or of a class without weight. NaN, on
        every backend, where a label is neither a class nor ignored. Under a
        `tf.distribute` strategy the mean is over the pixels of all replicas together.

    Raises:
        ValueError: for masks that are not (batch, height, width) labels, and for options
            out of their range.
    """

    def __init__(
        self,
        *,
        ignore_class: int | None = 255,
        class_weights: Sequence[float] | None = None,
        hard_pixels: int | None = None,
        hard_threshold: float | None = None,
        align_corners: bool | None = None,
        chunk_elements: int = CHUNK_ELEMENTS,
        name: str = "crossentropy",
    ):
        super().__init__(name=name)
        self.ignore_class = ignore_class
        self.class_weights = _class_weights(class_weights)
        _check_mining(hard_pixels, hard_threshold)
        self.hard_pixels = None if hard_pixels is None else int(hard_pixels)
        self.hard_threshold = None if hard_threshold is None else float(hard_threshold)
        self.align_corners = align_corners
        self.chunk_elements = chunk_elements

    def __call__(self, y_true, y_pred, sample_weight=None):
        return self.value(y_true, y_pred, sample_weight, training=True)

    def value(self, y_true, y_pred, sample_weight=None, *, training=False):
        """The loss; without `training` that of an evaluation.

        An evaluation has the class weights but no mining, which would make losses of two
        networks incomparable, and spares the work for the gradient.
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
                    f"{classes} classes; give one a class."
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
        """The pixels that mining keeps, (batch, height, width) booleans."""
        losses = self._pixel_losses(ops.stop_gradient(logits), labels)
        if self.hard_threshold is None:
            losses = losses * weights
        losses = ops.where(valid, losses, ops.cast(-2.0, losses.dtype))
        batch, height, width = ops.shape(labels)
        count = ops.sum(ops.cast(valid, "int32"))
        # Not more than there are, as the product must fit int32.
        most = ops.cast(ops.minimum(self.hard_pixels, height * width), "int32") * batch
        if self.hard_threshold is None:
            low, _ = _search(losses, ops.minimum(most, count) - 1, -1.0, ops.max(losses))
            return losses > low
        # A probability is below the threshold where the loss is above -log(threshold). Of no
        # more than `most` valid pixels mmsegmentation drops the easiest; so does this.
        easy = -math.log(self.hard_threshold)
        _, high = _search(losses, ops.minimum(most, count - 1), 0.0, easy)
        return losses > high

    def _pixel_losses(self, logits, labels):
        """Cross-entropies, (batch, height, width)."""
        chunks, labels = self._chunks(logits, labels)
        width = chunks.target_width

        def image_losses(inputs):
            image, image_labels = inputs

            def step(index, found):
                scores, _ = chunks.block(image, index)
                first = row_index(index * chunks.rows, 2)
                label = ops.slice(image_labels, first, (chunks.rows, width))
                losses, *_ = _crossentropies(scores, label, chunks.channels)
                return ops.slice_update(found, first, losses)

            found = ops.zeros((chunks.count * chunks.rows, width), image.dtype)
            return ops.fori_loop(0, chunks.count, step, found)

        dtype = keras.backend.standardize_dtype(logits.dtype)
        return map_images(image_losses, (logits, labels), dtypes=dtype)[:, : chunks.target_height]

    def _chunks(self, logits, *maps):
        """Blocks of rows, and maps of pixels lengthened by zeros to the last block's end."""
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

        def image_sum(inputs, with_gradient):
            image, image_labels, image_weights = inputs

            def step(index, carry):
                scores, position = chunks.block(image, index)
                first = row_index(index * chunks.rows, 2)
                block = (chunks.rows, chunks.target_width)
                label = ops.slice(image_labels, first, block)
                weight = ops.slice(image_weights, first, block)
                losses, exponentials, normalizer, chosen = _crossentropies(
                    scores, label, chunks.channels
                )
                loss = ops.sum(weight * losses)
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
            "class_weights": self.class_weights,
            "hard_pixels": self.hard_pixels,
            "hard_threshold": self.hard_threshold,
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


def _crossentropies(scores, label, classes):
    """Cross-entropies of a block (rows, width, classes), and what their gradient needs."""
    scores = scores - ops.max(scores, axis=-1, keepdims=True)
    exponentials = ops.exp(scores)
    normalizer = ops.sum(exponentials, axis=-1, keepdims=True)
    chosen = label[..., None] == ops.arange(classes, dtype="int32")
    picked = ops.sum(ops.where(chosen, scores, 0.0), axis=-1)
    return ops.log(normalizer[..., 0]) - picked, exponentials, normalizer, chosen


def _search(losses, rank, low, high):
    """Bounds close around the loss that `rank` others exceed, or around `high` if less.

    More than `rank` losses are above the first bound, and at most `rank` above the second.
    Halving takes a tenth of the time that sorting millions of pixels does.
    """

    def step(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        above = ops.sum(ops.cast(losses > middle, "int32")) > rank
        return ops.where(above, middle, low), ops.where(above, high, middle)

    start = (ops.cast(low, losses.dtype), ops.cast(high, losses.dtype))
    return ops.fori_loop(0, HALVINGS, step, start)


def _class_weights(weights):
    """A list of floats, or an error that says what is wrong."""
    if weights is None:
        return None
    try:
        array = np.asarray(weights, "float64")
    except (TypeError, ValueError):
        array = np.empty(())
    if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise ValueError(
            f"class_weights={weights!r}; give one number a class, none negative, NaN or "
            "infinite, and not all 0."
        )
    return array.tolist()


def _check_mining(pixels, threshold):
    whole = isinstance(pixels, int | np.integer) and not isinstance(pixels, bool)
    if pixels is not None and not (whole and pixels >= 1):
        raise ValueError(f"hard_pixels={pixels!r}; keep an integer of at least 1 pixel an image.")
    if threshold is None:
        return
    if pixels is None:
        raise ValueError(
            f"hard_threshold={threshold!r} needs hard_pixels, how many pixels an image are kept "
            "at least; mmsegmentation's default is 100_000."
        )
    if not 0 < threshold < 1:
        raise ValueError(
            f"hard_threshold={threshold!r}; a probability between 0 and 1, 0.7 for instance."
        )


def _all_replicas_sum(count):
    """Pixels of all replicas, so that a replica of mostly void counts for little."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return count
