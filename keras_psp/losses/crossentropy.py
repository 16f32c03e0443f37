"""Softmax cross-entropy at the mask's size, computed from low-resolution logits."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import (
    checked_integer,
    checked_mining,
    checked_number,
    checked_smoothing,
)
from keras_psp.layers.chunks import map_images, row_index
from keras_psp.losses.upsampled import UpsampledPixelLoss, crossentropies

# Halvings in the search for the loss of the k-th hardest pixel. float32 losses below log(2)
# are 2**-24 apart and larger ones further, so this distinguishes any two of them.
HALVINGS = 40


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledCrossentropy(UpsampledPixelLoss):
    """Upsampling, softmax cross-entropy and an ignored label in one pass.

    Equal to bilinear upsampling of the logits to the mask's size followed by the mean softmax
    cross-entropy over all pixels that are not ignored (torch's
    `CrossEntropyLoss(ignore_index=255)`, as in semseg). The upsampled logits are computed a few
    rows at a time, with the gradient in the same pass, so they take only a few megabytes.

    These options help classes and pixels that count too little in a plain mean:

    - Class weights, as in torch's `CrossEntropyLoss(weight=...)`: a weighted mean, divided by
      the sum of the weights of all pixels that are not ignored.
    - Online hard example mining (OHEM), as in mmsegmentation's `OHEMPixelSampler`: in training,
      only the hardest pixels of a batch have a loss. The divisor still covers all pixels that
      are not ignored, as in mmsegmentation's `CrossEntropyLoss(avg_non_ignore=True)`, whose
      default also counts the ignored pixels. Each call mines on its own: the heads of a
      `PSPNet` have different hard pixels, and under a `tf.distribute` strategy each replica
      mines its part of the batch.
    - Boundary weights: pixels near one of another class count `1 + boundary_weight` times, in
      the divisor too. U-Net's weight map decreases with the distance instead. Ignored pixels
      have no class, so those between two objects don't hide the boundary.

    Label smoothing, as in torch and `keras.losses.CategoricalCrossentropy`, replaces a share of
    the target by the same probability for every class. A pixel's class weight is that of its
    label for the whole loss, whereas torch weights the other classes' terms by their own.

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
        label_smoothing: share of the target spread evenly over all classes, 0 to less than 1.
            It can't be combined with `hard_pixels`, because a smoothed loss is large for the
            pixels that the network is most certain of, which mining would mistake for hard ones.
        boundary_weight: additional weight of pixels near a boundary; 0 for none.
        boundary_radius: largest distance of these pixels, in rows or columns, to one of another
            class.
        align_corners: how to upsample the logits. None uses the setting of the `PSPNet` that
            the loss is compiled into, and True elsewhere.
        chunk_elements: number of class scores to hold in memory at a time; None for one that
            suits the device (see `keras_psp.layers.chunks.block_elements`).

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
        ValueError: if the masks are not (batch, height, width) labels, a float mask contains a
            value that isn't a whole number, or an argument is invalid.

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
        label_smoothing: float = 0.0,
        boundary_weight: float = 0.0,
        boundary_radius: int = 3,
        align_corners: bool | None = None,
        chunk_elements: int | None = None,
        name: str = "crossentropy",
    ):
        super().__init__(
            ignore_class=ignore_class,
            class_weights=class_weights,
            align_corners=align_corners,
            chunk_elements=chunk_elements,
            name=name,
        )
        self.hard_pixels, self.hard_threshold = checked_mining(hard_pixels, hard_threshold)
        self.label_smoothing = checked_smoothing(label_smoothing, self.hard_pixels)
        self.boundary_weight = checked_number("boundary_weight", boundary_weight, least=0)
        self.boundary_radius = checked_integer("boundary_radius", boundary_radius, least=1)

    def value(
        self, y_true: Any, y_pred: Any, sample_weight: Any | None = None, *, training: bool = False
    ) -> Any:
        """Computes the loss, by default for evaluation.

        Evaluation uses the weights but no mining, which would make the losses of two networks
        incomparable, and doesn't compute the gradient.
        """
        return super().value(y_true, y_pred, sample_weight, training=training)

    def _weights(self, logits, labels, valid):
        weights = super()._weights(logits, labels, valid)
        if not self.boundary_weight:
            return weights
        near = near_boundary(labels, valid, self.boundary_radius)
        return weights * (1 + self.boundary_weight * ops.cast(near, weights.dtype))

    def _kept_in_training(self, logits, labels, valid, weights):
        if self.hard_pixels is None:
            return weights
        hard = self._hard(logits, labels, valid, weights)
        return weights * ops.cast(hard, logits.dtype)

    def _block(self, scores, label, weight, differentiable):
        losses, exponentials, normalizer, chosen = crossentropies(scores, label)
        even = self.label_smoothing / scores.shape[1]
        if even:
            # The mean cross-entropy of all classes is that of the label plus the label's lead.
            losses = losses + self.label_smoothing * _lead(scores, chosen)
        loss = ops.sum(weight * losses)
        if not differentiable:
            return loss, None
        scaled = exponentials * (weight / normalizer)
        if not even:
            return loss, ops.where(chosen, scaled - weight, scaled)
        target = (1 - self.label_smoothing) * ops.cast(chosen, scores.dtype) + even
        return loss, scaled - weight * target

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
                block, *_ = crossentropies(scores, label)
                return ops.slice_update(losses, row_index(index * chunks.rows, 2), block[:, 0])

            losses = ops.zeros((chunks.count * chunks.rows, chunks.target_width), image.dtype)
            return ops.fori_loop(0, chunks.count, step, losses)

        dtype = keras.backend.standardize_dtype(logits.dtype)
        return map_images(image_losses, (logits, labels), dtypes=dtype)[:, : chunks.target_height]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hard_pixels": self.hard_pixels,
            "hard_threshold": self.hard_threshold,
            "label_smoothing": self.label_smoothing,
            "boundary_weight": self.boundary_weight,
            "boundary_radius": self.boundary_radius,
        }


def _lead(scores, chosen):
    """By how much the label's score exceeds the mean score, (rows, 1, width)."""
    picked = ops.sum(ops.where(chosen, scores, 0.0), axis=1, keepdims=True)
    return picked - ops.mean(scores, axis=1, keepdims=True)


def near_boundary(labels: Any, valid: Any, radius: int) -> Any:
    """Whether a pixel is near one of another class.

    Args:
        labels: (batch, height, width), int32.
        valid: (batch, height, width), bool. Other pixels have no class, and are near no other.
        radius: largest distance in pixels, the larger of rows and columns.

    Returns:
        (batch, height, width), bool.
    """
    numbers = ops.cast(labels, "float32")
    highest = _window_max(ops.where(valid, numbers, float("-inf")), radius)
    lowest = -_window_max(ops.where(valid, -numbers, float("-inf")), radius)
    return ops.logical_and(valid, highest > lowest)


def _window_max(values, radius):
    """The largest value in the square around each position, (batch, height, width)."""
    values = values[..., None]
    for window in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        values = ops.max_pool(values, window, 1, "same", "channels_last")
    return values[..., 0]


def _search(losses, rank, low, high):
    """Close bounds on the loss that is exceeded by `rank` others, or on `high` if it is lower.

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
