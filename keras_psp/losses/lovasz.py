"""Lovász-softmax loss at the mask's size, computed one class at a time."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import checked_flag
from keras_psp.layers.chunks import map_images, row_index
from keras_psp.layers.resampling import interpolation_matrix
from keras_psp.losses.upsampled import (
    UpsampledLoss,
    pixel_counts,
    share_of_replica,
    with_known_gradient,
)


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledLovasz(UpsampledLoss):
    """Lovász-softmax loss, a convex surrogate of 1 - IoU (Berman et al., CVPR 2018).

    For each class that has labeled pixels, the errors |y - p| of all pixels are sorted, each is
    multiplied by what its pixel adds to 1 - IoU if the pixels before it are wrong, and the loss is
    the mean of these sums over the classes. Equal to the authors' code with `classes="present"`,
    and to segmentation_models.pytorch's `LovaszLoss("multiclass")`.

    The sorting needs all pixels of a class at once, so it can't be done a few rows at a time.
    Instead, one class at a time is upsampled and sorted, which takes about 60 bytes per pixel of
    the batch, or of an image with `per_image`, for any number of classes. The softmax's
    normalizer, before that, and the last part of the gradient, after it, are computed a few rows
    at a time. Sorting takes most of the time, which grows with the number of classes in the
    labels; a plain implementation, which stores everything, sorts as much.

    Args:
        per_image: whether pixels are sorted per image, and the loss is the mean over images,
            instead of over the batch.
        ignore_class: label to ignore, or None. Ignored pixels are in none of the sums.
        class_weights: one non-negative factor per class, or None: the loss is a weighted mean
            over the classes that occur.
        align_corners: see `UpsampledCrossentropy`.
        chunk_elements: see `UpsampledCrossentropy`.
        name: name of the loss.

    Call arguments:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: (batch, h, w, num_classes) logits of any spatial size.
        sample_weight: None, (batch,) or (batch, height, width). A pixel with weight 2 counts as
            two pixels with the same error, one with weight 0 as an ignored one.

    Returns:
        A scalar: 0 if every pixel is ignored; NaN if a label is neither a class nor ignored.
        Under a `tf.distribute` strategy, each replica sorts the pixels of its part of the batch,
        and the loss is the mean over replicas. Accumulated gradients and `evaluate` average over
        parts and batches likewise.

    Raises:
        ValueError: as `UpsampledCrossentropy`.

    Example:
        loss = UpsampledLovasz()
        masks = np.zeros((1, 473, 473), "int32")
        loss(masks, keras.random.normal((1, 60, 60, 21)))
    """

    def __init__(
        self,
        *,
        per_image: bool = False,
        ignore_class: int | None = 255,
        class_weights: Sequence[float] | None = None,
        align_corners: bool | None = None,
        chunk_elements: int | None = None,
        name: str = "lovasz",
    ):
        super().__init__(
            ignore_class=ignore_class,
            class_weights=class_weights,
            align_corners=align_corners,
            chunk_elements=chunk_elements,
            name=name,
        )
        self.per_image = checked_flag("per_image", per_image)

    def _loss(self, logits, labels, valid, sample_weight, training):
        weights = pixel_counts(logits, valid, sample_weight)
        dtype = keras.backend.standardize_dtype(logits.dtype)

        def image_loss(inputs):
            loss, gradient = self._classes(*(part[None] for part in inputs), training)
            return (loss, gradient[0]) if training else loss

        def value_and_gradient(logits):
            if not self.per_image:
                return self._classes(logits, labels, weights, training)
            dtypes = (dtype, dtype) if training else dtype
            results = map_images(image_loss, (logits, labels, weights), dtypes=dtypes)
            if not training:
                return ops.mean(results), None
            return ops.mean(results[0]), results[1] / ops.cast(ops.shape(logits)[0], dtype)

        if training:
            return share_of_replica(with_known_gradient(value_and_gradient)(logits))
        return share_of_replica(value_and_gradient(logits)[0])

    def _classes(self, logits, labels, weights, differentiable):
        """The loss of some images and its gradient with respect to their logits.

        The gradient with respect to the score of class k is p_k * (g_k - inner), where g_k is
        that with respect to p_k and `inner` the sum of p * g over the classes. The loop over
        the classes adds up `inner` and the first product; the second one needs all of it.
        """
        height, width = ops.shape(labels)[1:3]
        aligned = self.align_corners is not False
        rows, columns = (
            ops.cast(interpolation_matrix(size, target, align_corners=aligned), logits.dtype)
            for size, target in zip(ops.shape(logits)[1:3], (height, width), strict=True)
        )
        normalizers = self._normalizers(logits, labels)
        by_class = ops.transpose(logits, (3, 0, 1, 2))
        factors = self._class_factors(logits.shape[-1], logits.dtype)
        numbers = ops.cast(labels, logits.dtype)
        zero = ops.zeros((), logits.dtype)

        def step(index, carry):
            y = numbers == ops.cast(index, logits.dtype)
            labeled = ops.sum(ops.where(y, weights, 0.0))

            def add():
                scores = ops.matmul(rows, ops.matmul(by_class[index], ops.transpose(columns)))
                p = ops.exp(scores - normalizers)
                factor = factors[index]
                loss, slopes = _lovasz(p, y, weights, labeled)
                sums = carry[0] + factor * loss, carry[1] + factor
                if not differentiable:
                    return sums
                slopes = factor * p * slopes
                own = ops.matmul(ops.transpose(rows), ops.matmul(slopes, columns))
                place = row_index(index, 4)
                return *sums, carry[2] + slopes, ops.slice_update(carry[3], place, own[None])

            return ops.cond(labeled > 0, add, lambda: carry)

        start = (zero, zero)
        if differentiable:
            start = (*start, ops.zeros_like(normalizers), ops.zeros_like(by_class))
        total, divisor, *maps = ops.fori_loop(0, logits.shape[-1], step, start)
        divisor = ops.where(divisor > 0, divisor, ops.ones_like(divisor))
        if not differentiable:
            return total / divisor, None
        inner, gradient = maps
        gradient = ops.transpose(gradient, (1, 2, 3, 0))
        return total / divisor, self._with_inner(logits, normalizers, inner, gradient) / divisor

    def _normalizers(self, logits, labels):
        """Log-sum-exp of the upsampled scores, (batch, height, width)."""
        chunks, _ = self._chunks(logits, labels)

        def image_normalizers(image):
            def step(index, values):
                scores, _ = chunks.block(image, index)
                block = ops.logsumexp(scores, axis=1)
                return ops.slice_update(values, row_index(index * chunks.rows, 2), block)

            values = ops.zeros((chunks.count * chunks.rows, chunks.target_width), image.dtype)
            return ops.fori_loop(0, chunks.count, step, values)

        dtype = keras.backend.standardize_dtype(logits.dtype)
        return map_images(image_normalizers, logits, dtypes=dtype)[:, : chunks.target_height]

    def _with_inner(self, logits, normalizers, inner, gradient):
        """The gradient, with the part of `inner` subtracted."""
        chunks, normalizers, inner = self._chunks(logits, normalizers, inner)

        def image_gradient(inputs):
            image, image_normalizers, image_inner, total = inputs

            def step(index, total):
                scores, position = chunks.block(image, index)
                p = ops.exp(scores - chunks.rows_of(image_normalizers, index))
                slope = -p * chunks.rows_of(image_inner, index)
                return chunks.transpose(slope, position, total)

            return ops.fori_loop(0, chunks.count, step, total)

        dtype = keras.backend.standardize_dtype(logits.dtype)
        return map_images(image_gradient, (logits, normalizers, inner, gradient), dtypes=dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "per_image": self.per_image}


def _lovasz(p, y, weights, labeled):
    """The loss of one class, and its derivative with respect to p.

    Args:
        p: (batch, height, width) probabilities.
        y: (batch, height, width), bool.
        weights: (batch, height, width), 0 for ignored pixels.
        labeled: sum of the weights where y is true.
    """
    shape = ops.shape(p)
    flat = ops.reshape(ops.where(y, 1 - p, p), (-1,))
    order = ops.argsort(-flat)
    weights = ops.reshape(weights, (-1,))
    y_flat = ops.reshape(y, (-1,))
    inside = ops.take(ops.where(y_flat, weights, 0.0), order)
    outside = ops.take(ops.where(y_flat, 0.0, weights), order)
    # IoU = intersection / union if the pixels so far are wrong. Its decrease with each pixel is
    # computed without subtracting two IoUs, which differ by less than float32's precision.
    intersection = labeled - ops.cumsum(inside)
    union = labeled + ops.cumsum(outside)
    steps = inside / union + outside * intersection / (union * (union - outside))
    loss = ops.sum(ops.take(flat, order) * steps)
    steps = ops.scatter_update(ops.zeros_like(steps), order[:, None], steps)
    steps = ops.reshape(steps, shape)
    return loss, ops.where(y, -steps, steps)
