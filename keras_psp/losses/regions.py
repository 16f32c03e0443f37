"""Dice and Tversky losses at the mask's size, computed from low-resolution logits."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import checked_number
from keras_psp.layers.chunks import map_images
from keras_psp.losses.upsampled import (
    UpsampledLoss,
    chosen_classes,
    pixel_counts,
    share_of_replica,
    sum_over_replicas,
)


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledTversky(UpsampledLoss):
    """Tversky loss: how badly the region of each class overlaps its labels.

    Per class, with a probability p and a label y of 0 or 1 for each pixel of the batch: TP is the
    sum of p * y, FP that of p * (1 - y), FN that of (1 - p) * y, and the score is
    TP / (TP + alpha * FP + beta * FN) (Salehi et al., MLMI 2017). The loss is the mean of
    1 - score over all classes, to which a class without labeled pixels contributes 0, as in
    segmentation_models.pytorch's `TverskyLoss(mode="multiclass")`. `keras.losses.Tversky` calls
    our beta alpha, and our alpha beta.

    The sums need one pass over the upsampled logits and their gradient another one, a few rows at
    a time each, so both take as little memory as `UpsampledCrossentropy`.

    Args:
        alpha: weight of false positives; 0.3 in the paper.
        beta: weight of false negatives; 0.7 in the paper.
        gamma: exponent of the loss, more than 0.
        smooth: number added to both sides of the fraction.
        ignore_class: label to ignore, or None. Ignored pixels are in none of the sums.
        class_weights: one non-negative factor per class, or None: the loss is a weighted mean
            over all classes.
        align_corners: see `UpsampledCrossentropy`.
        chunk_elements: see `UpsampledCrossentropy`.
        name: name of the loss.

    Call arguments:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: (batch, h, w, num_classes) logits of any spatial size.
        sample_weight: None, (batch,) or (batch, height, width). A pixel with weight 2 counts as
            two pixels, one with weight 0 as an ignored one.

    Returns:
        A scalar: 0 if every pixel is ignored; NaN if a label is neither a class nor ignored.
        The sums are over the whole batch, also under a `tf.distribute` strategy. With
        accumulated gradients, the loss is the mean over the parts of a batch, each with sums of
        its own; in `evaluate`, the mean over batches.

    Raises:
        ValueError: as `UpsampledCrossentropy`.

    Example:
        loss = UpsampledTversky(alpha=0.3, beta=0.7)
        masks = np.zeros((1, 473, 473), "int32")
        loss(masks, keras.random.normal((1, 60, 60, 21)))
    """

    # As in segmentation_models.pytorch: the least denominator of the score.
    EPSILON = 1e-7

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 0.0,
        ignore_class: int | None = 255,
        class_weights: Sequence[float] | None = None,
        align_corners: bool | None = None,
        chunk_elements: int | None = None,
        name: str = "tversky",
    ):
        super().__init__(
            ignore_class=ignore_class,
            class_weights=class_weights,
            align_corners=align_corners,
            chunk_elements=chunk_elements,
            name=name,
        )
        self.alpha = checked_number("alpha", alpha, least=0)
        self.beta = checked_number("beta", beta, least=0)
        self.gamma = checked_number("gamma", gamma, above=0)
        self.smooth = checked_number("smooth", smooth, least=0)

    def _loss(self, logits, labels, valid, sample_weight, training):
        weights = pixel_counts(logits, valid, sample_weight)
        sums = sum_over_replicas(self._sums(logits, labels, weights))
        overlap, predicted, labeled = sums[0], sums[1], sums[2]
        wrong = self.alpha * (predicted - overlap) + self.beta * (labeled - overlap)
        below = ops.maximum(overlap + wrong + self.smooth, self.EPSILON)
        losses = 1 - (overlap + self.smooth) / below
        losses = ops.where(labeled > 0, losses, ops.zeros_like(losses))
        factors = self._class_factors(logits.shape[-1], logits.dtype)
        loss = ops.sum(factors * losses) / ops.sum(factors)
        if self.gamma != 1:
            # Rounding must not make it negative, and a root has no gradient at 0.
            tiny = 1e-12
            loss = ops.where(loss > tiny, ops.power(ops.maximum(loss, tiny), self.gamma), 0.0)
        return share_of_replica(loss)

    def _sums(self, logits, labels, weights):
        """(3, classes): weighted sums of p * y, p and y over all pixels, by class."""
        chunks, labels, weights = self._chunks(logits, labels, weights)
        dtype = keras.backend.standardize_dtype(logits.dtype)

        def each_block(inputs, start, function):
            """Calls `function(carry, exponentials, scale, y, weight, position)` for each block.

            exponentials * scale is p; scale and weight are (rows, 1, width).
            """
            image, image_labels, image_weights = inputs

            def step(index, carry):
                scores, position = chunks.block(image, index)
                chosen = chosen_classes(chunks.rows_of(image_labels, index), scores)
                weight = chunks.rows_of(image_weights, index)
                exponentials = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
                scale = 1 / ops.sum(exponentials, axis=1, keepdims=True)
                return function(carry, exponentials, scale, chosen, weight, position)

            return ops.fori_loop(0, chunks.count, step, start)

        def image_sums(inputs):
            def add(total, exponentials, scale, y, weight, _):
                p = weight * scale * exponentials
                terms = (ops.where(y, p, 0.0), p, ops.where(y, weight, 0.0))
                return total + ops.stack([ops.sum(ops.sum(term, axis=0), axis=1) for term in terms])

            return each_block(inputs, ops.zeros((3, chunks.classes), dtype), add)

        # Two passes: the gradient of a pixel depends on the sums over all of them.
        @ops.custom_gradient
        def sums(logits):
            inputs = (logits, labels, weights)

            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                other = upstream[1][:, None]
                labeled = upstream[0][:, None] + other

                def image_gradient(inputs):
                    def add(total, exponentials, scale, y, weight, position):
                        slope = ops.where(y, labeled, other)
                        inner = scale * ops.sum(exponentials * slope, axis=1, keepdims=True)
                        slope = weight * scale * exponentials * (slope - inner)
                        return chunks.transpose(slope, position, total)

                    return each_block(inputs, ops.zeros_like(inputs[0]), add)

                return map_images(image_gradient, inputs, dtypes=dtype)

            return ops.sum(map_images(image_sums, inputs, dtypes=dtype), axis=0), gradient

        return sums(logits)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "gamma": self.gamma,
            "smooth": self.smooth,
        }


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledDice(UpsampledTversky):
    """Dice loss (Milletari et al., 3DV 2016, without the squares).

    This is `UpsampledTversky` with alpha = beta = 0.5. The score of a class is
    2 TP / (2 TP + FP + FN), with sums over the pixels of the batch, as in
    segmentation_models.pytorch's `DiceLoss(mode="multiclass")`. The loss also equals
    `keras.losses.Dice(axis=(0, 1, 2))` of one-hot labels and probabilities, except that a class
    without labeled pixels has a loss of 1 there and 0 here.

    Args:
        smooth: number added to both sides of the fraction TP / (TP + (FP + FN) / 2).
        ignore_class: label to ignore, or None. Ignored pixels are in none of the sums.
        class_weights: one non-negative factor per class, or None: the loss is a weighted mean
            over all classes.
        align_corners: see `UpsampledCrossentropy`.
        chunk_elements: see `UpsampledCrossentropy`.
        name: name of the loss.

    Call arguments, results and errors are those of `UpsampledTversky`.

    Example:
        loss = UpsampledDice()
        masks = np.zeros((1, 473, 473), "int32")
        loss(masks, keras.random.normal((1, 60, 60, 21)))
    """

    def __init__(
        self,
        *,
        smooth: float = 0.0,
        ignore_class: int | None = 255,
        class_weights: Sequence[float] | None = None,
        align_corners: bool | None = None,
        chunk_elements: int | None = None,
        name: str = "dice",
    ):
        super().__init__(
            alpha=0.5,
            beta=0.5,
            smooth=smooth,
            ignore_class=ignore_class,
            class_weights=class_weights,
            align_corners=align_corners,
            chunk_elements=chunk_elements,
            name=name,
        )

    def get_config(self) -> dict[str, Any]:
        fixed = ("alpha", "beta", "gamma")
        return {name: value for name, value in super().get_config().items() if name not in fixed}
