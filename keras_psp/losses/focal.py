"""Focal loss at the mask's size, computed from low-resolution logits."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import checked_choice, checked_number
from keras_psp.losses.upsampled import UpsampledPixelLoss, chosen_classes, crossentropies


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledFocalCrossentropy(UpsampledPixelLoss):
    """Cross-entropy in which pixels that are already correct count little (Lin et al., ICCV 2017).

    The cross-entropy of a pixel is multiplied by `(1 - p) ** gamma`, where p is the probability
    of its label. It takes as much memory as `UpsampledCrossentropy`.

    With `activation="softmax"` the loss is that of `keras.losses.CategoricalFocalCrossentropy(
    alpha=1)`, averaged like `UpsampledCrossentropy`: over the pixels that are not ignored, with
    the class weight of their labels.

    With `activation="sigmoid"` it is that of mmsegmentation and segmentation_models.pytorch:
    each class has a sigmoid that separates it from all others, and the loss of a pixel is the
    mean over the classes, weighted by the class weights. (mmsegmentation doesn't divide by the
    mean of these weights.)

    Args:
        gamma: exponent of the factor, at least 0; 0 is the cross-entropy.
        activation: "softmax" or "sigmoid".
        alpha: factor of the label's class; the other classes get 1 - alpha. None for no factors.
            Only for "sigmoid": with a softmax, it would scale the whole loss.
        ignore_class: label to ignore, or None.
        class_weights: one non-negative factor per class, or None.
        align_corners: see `UpsampledCrossentropy`.
        chunk_elements: see `UpsampledCrossentropy`.
        name: name of the loss.

    Call arguments:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: (batch, h, w, num_classes) logits of any spatial size.
        sample_weight: None, (batch,) or (batch, height, width) factors of the pixels' losses,
            which don't affect the divisor.

    Returns:
        A scalar: 0 if every pixel is ignored; NaN if a label is neither a class nor ignored.
        Under a `tf.distribute` strategy, the mean is over the pixels of all replicas.

    Raises:
        ValueError: as `UpsampledCrossentropy`.

    Example:
        loss = UpsampledFocalCrossentropy(gamma=2.0)
        masks = np.zeros((1, 473, 473), "int32")
        loss(masks, keras.random.normal((1, 60, 60, 21)))
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        activation: str = "softmax",
        alpha: float | None = None,
        ignore_class: int | None = 255,
        class_weights: Sequence[float] | None = None,
        align_corners: bool | None = None,
        chunk_elements: int | None = None,
        name: str = "focal",
    ):
        super().__init__(
            ignore_class=ignore_class,
            class_weights=class_weights,
            align_corners=align_corners,
            chunk_elements=chunk_elements,
            name=name,
        )
        self.gamma = checked_number("gamma", gamma, least=0)
        self.activation = checked_choice("activation", activation, ("softmax", "sigmoid"))
        if alpha is not None:
            alpha = checked_number("alpha", alpha, least=0, most=1)
            if self.activation == "softmax":
                raise ValueError(
                    f"alpha={alpha!r} needs activation='sigmoid'; with a softmax, give "
                    "class_weights."
                )
        self.alpha = alpha

    def _weights(self, logits, labels, valid):
        if self.activation == "softmax":
            return super()._weights(logits, labels, valid)
        return ops.cast(valid, logits.dtype)

    def _block(self, scores, label, weight, differentiable):
        if self.activation == "sigmoid":
            return self._sigmoid_block(scores, label, weight, differentiable)
        losses, exponentials, normalizer, chosen = crossentropies(scores, label)
        losses, slopes = self._focal(losses, differentiable)
        loss = ops.sum(weight * losses)
        if not differentiable:
            return loss, None
        weight = weight * slopes
        scaled = exponentials * (weight / normalizer)
        return loss, ops.where(chosen, scaled - weight, scaled)

    def _sigmoid_block(self, scores, label, weight, differentiable):
        chosen = chosen_classes(label, scores)
        factors = self._class_factors(scores.shape[1], scores.dtype)
        factors = (factors / ops.sum(factors))[:, None]
        if self.alpha is not None:
            pair = (ops.convert_to_tensor(x, scores.dtype) for x in (self.alpha, 1 - self.alpha))
            factors = factors * ops.where(chosen, *pair)
        factors = factors * weight
        sign = ops.where(chosen, -1.0, 1.0)
        sign = ops.cast(sign, scores.dtype)
        crossentropy = ops.softplus(sign * scores)
        losses, slopes = self._focal(crossentropy, differentiable)
        loss = ops.sum(factors * losses)
        if not differentiable:
            return loss, None
        return loss, factors * slopes * sign * ops.sigmoid(sign * scores)

    def _focal(self, crossentropy, differentiable):
        """The focal loss of cross-entropies, and its derivative with respect to them."""
        wrong = -ops.expm1(-crossentropy)  # the probability of the other classes
        factor = ops.power(wrong, self.gamma)
        loss = factor * crossentropy
        if not differentiable or not self.gamma:
            return loss, factor
        # crossentropy / wrong is 1 where both are 0.
        positive = wrong > 0
        ratio = ops.where(positive, crossentropy, 1.0) / ops.where(positive, wrong, 1.0)
        return loss, factor * (1 + self.gamma * ops.exp(-crossentropy) * ratio)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "activation": self.activation,
            "alpha": self.alpha,
        }
