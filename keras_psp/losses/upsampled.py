"""Base classes of the losses, which upsample and consume logits a few rows at a time."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_psp.arguments import (
    checked_choice,
    checked_class_weights,
    checked_integer,
    checked_string,
)
from keras_psp.layers.chunks import RowChunks, map_images
from keras_psp.layers.labels import integer_labels


class UpsampledLoss(keras.losses.Loss):
    """A loss of bilinearly upsampled logits that never stores them at full size.

    Subclasses implement `_loss`. They have these arguments and call arguments, and may add more.

    Args:
        ignore_class: label to ignore, or None.
        class_weights: one non-negative factor per class, or None; see also
            `keras_psp.losses.median_frequency_weights`.
        align_corners: how to upsample the logits. None uses the setting of the `PSPNet` that
            the loss is compiled into, and True elsewhere.
        chunk_elements: number of class scores to hold in memory at a time; None for one that
            suits the device (see `keras_psp.layers.chunks.block_elements`).
        name: name of the loss.

    Call arguments:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: (batch, h, w, num_classes) logits of any spatial size.
        sample_weight: None, (batch,) or (batch, height, width).

    Returns:
        A scalar, float64 for float64 logits, otherwise float32: 0 if every pixel is ignored; NaN
        on every backend if a label is neither a class nor ignored.

    Raises:
        ValueError: if the masks are not (batch, height, width) labels, a float mask contains a
            value that isn't a whole number, or an argument is invalid.
    """

    def __init__(
        self,
        *,
        ignore_class: int | None = 255,
        class_weights: Sequence[float] | None = None,
        align_corners: bool | None = None,
        chunk_elements: int | None = None,
        name: str,
    ):
        super().__init__(name=checked_string("name", name))
        if ignore_class is not None:
            ignore_class = checked_integer("ignore_class", ignore_class)
        self.ignore_class = ignore_class
        self.class_weights = checked_class_weights(class_weights)
        self.align_corners = checked_choice("align_corners", align_corners, (None, True, False))
        if chunk_elements is not None:
            chunk_elements = checked_integer("chunk_elements", chunk_elements, least=1)
        self.chunk_elements = chunk_elements

    # Not a property: Keras searches attributes for state to save, and would never finish.
    def parts(self) -> "list[UpsampledLoss]":
        """The losses that a sum adds; for other losses, the loss itself."""
        return [self]

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        return self.value(y_true, y_pred, sample_weight, training=True)

    def value(
        self, y_true: Any, y_pred: Any, sample_weight: Any | None = None, *, training: bool = False
    ) -> Any:
        """Computes the loss, by default for evaluation, without the gradient."""
        labels = checked_labels(y_true, y_pred)
        logits = ops.convert_to_tensor(y_pred)
        if keras.backend.standardize_dtype(logits.dtype) != "float64":
            logits = ops.cast(logits, "float32")
        classes = logits.shape[-1]
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} entries but the logits have "
                f"{classes} classes; give one per class."
            )
        valid = ops.ones_like(labels, dtype="bool")
        if self.ignore_class is not None:
            valid = labels != self.ignore_class
        if sample_weight is not None:
            sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), logits.dtype)
            if len(sample_weight.shape) == 4:
                sample_weight = ops.squeeze(sample_weight, axis=-1)
            missing = 3 - len(sample_weight.shape)
            sample_weight = sample_weight[(..., *[None] * missing)]
        loss = self._loss(logits, labels, valid, sample_weight, training)
        bad = ops.logical_and(valid, ops.logical_or(labels < 0, labels >= classes))
        return ops.where(ops.any(bad), ops.cast(float("nan"), loss.dtype), loss)

    def _loss(self, logits, labels, valid, sample_weight, training):
        """The loss, where all labels are valid.

        Args:
            logits: (batch, h, w, classes), float32 or float64.
            labels: (batch, height, width), int32.
            valid: (batch, height, width), bool: whether the label isn't ignored.
            sample_weight: None, (batch, 1, 1) or (batch, height, width).
            training: False in evaluation.
        """
        raise NotImplementedError

    def aligned(self, align_corners: bool) -> Self:
        """A copy for a network with this `align_corners`; raises ValueError if it has another."""
        if self.align_corners not in (None, align_corners):
            raise ValueError(
                f"the loss has align_corners={self.align_corners} but the model "
                f"align_corners={align_corners}; leave the loss' at None."
            )
        return type(self).from_config({**self.get_config(), "align_corners": align_corners})

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

    def _class_factors(self, classes, dtype):
        """The class weights as a tensor, or ones if there are none."""
        if self.class_weights is None:
            return ops.ones((classes,), dtype)
        return ops.convert_to_tensor(self.class_weights, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ignore_class": self.ignore_class,
            "class_weights": self.class_weights,
            "align_corners": self.align_corners,
            "chunk_elements": self.chunk_elements,
        }


class UpsampledPixelLoss(UpsampledLoss):
    """A weighted mean over pixels of a loss that depends on the scores of each pixel alone.

    Subclasses implement `_block`, and may override `_weights`.
    """

    def _loss(self, logits, labels, valid, sample_weight, training):
        weights = self._weights(logits, labels, valid)
        divisor = sum_over_replicas(ops.sum(weights))
        if training:
            weights = self._kept_in_training(logits, labels, valid, weights)
        if sample_weight is not None:
            weights = weights * sample_weight
        total = self._weighted_sum(logits, labels, weights, training)
        return total / ops.where(divisor > 0, divisor, ops.ones_like(divisor))

    def _weights(self, logits, labels, valid):
        """(batch, height, width) weights of the pixels, whose sum divides the loss."""
        weights = ops.cast(valid, logits.dtype)
        if self.class_weights is not None:
            factors = ops.convert_to_tensor(self.class_weights, dtype=logits.dtype)
            weights = weights * ops.take(factors, ops.clip(labels, 0, logits.shape[-1] - 1))
        return weights

    def _kept_in_training(self, logits, labels, valid, weights):
        """The weights of the pixels that a training step learns from."""
        return weights

    def _block(self, scores, label, weight, differentiable):
        """The sum of weight * loss over a block, and its gradient with respect to the scores.

        Args:
            scores: (rows, classes, width).
            label, weight: (rows, 1, width).
            differentiable: whether the gradient is needed; otherwise it may be None.
        """
        raise NotImplementedError

    def _weighted_sum(self, logits, labels, weights, differentiable):
        """Sum of weights * loss over all pixels."""
        chunks, labels, weights = self._chunks(logits, labels, weights)
        dtype = keras.backend.standardize_dtype(logits.dtype)

        def image_sum(inputs):
            image, image_labels, image_weights = inputs

            def step(index, carry):
                scores, position = chunks.block(image, index)
                label = chunks.rows_of(image_labels, index)
                weight = chunks.rows_of(image_weights, index)
                loss, slope = self._block(scores, label, weight, differentiable)
                if not differentiable:
                    return carry + loss
                return carry[0] + loss, chunks.transpose(slope, position, carry[1])

            zero = ops.zeros((), image.dtype)
            start = (zero, ops.zeros_like(image)) if differentiable else zero
            return ops.fori_loop(0, chunks.count, step, start)

        def value(logits):
            return ops.sum(map_images(image_sum, (logits, labels, weights), dtypes=dtype))

        def value_and_gradient(logits):
            inputs = (logits, labels, weights)
            sums, gradients = map_images(image_sum, inputs, dtypes=(dtype, dtype))
            return ops.sum(sums), gradients

        return with_known_gradient(value_and_gradient)(logits) if differentiable else value(logits)


def with_known_gradient(value_and_gradient: Callable) -> Callable:
    """Returns a scalar function of the logits, computing value and gradient in one pass.

    The gradient is the upstream scalar times a map that depends only on the logits. The forward
    pass computes this map and keeps nothing else.
    """

    @ops.custom_gradient
    def function(logits):
        value, slopes = value_and_gradient(logits)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return upstream * slopes

        return value, gradient

    return function


def checked_labels(y_true: Any, y_pred: Any) -> Any:
    """Returns the masks as integer labels (batch, height, width), checked."""
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


def crossentropies(scores: Any, label: Any) -> tuple[Any, Any, Any, Any]:
    """Cross-entropies of a block (rows, classes, width) and the terms of their gradient.

    Returns:
        (losses (rows, 1, width), exponentials of the scores, their sums (rows, 1, width), and
        whether a class is that of the label).
    """
    scores = scores - ops.max(scores, axis=1, keepdims=True)
    exponentials = ops.exp(scores)
    normalizer = ops.sum(exponentials, axis=1, keepdims=True)
    chosen = chosen_classes(label, scores)
    picked = ops.sum(ops.where(chosen, scores, 0.0), axis=1, keepdims=True)
    return ops.log(normalizer) - picked, exponentials, normalizer, chosen


def chosen_classes(label: Any, scores: Any) -> Any:
    """Whether a class is that of the label, (rows, classes, width) bool, as the scores."""
    # As floats: TensorFlow compares int32 on the CPU, even if everything else is on a GPU.
    numbers = ops.arange(scores.shape[1], dtype=scores.dtype)
    return ops.cast(label, scores.dtype) == numbers[:, None]


def pixel_counts(logits: Any, valid: Any, sample_weight: Any) -> Any:
    """How many times each pixel counts, (batch, height, width): 0 if its label is ignored."""
    counts = ops.cast(valid, logits.dtype)
    return counts if sample_weight is None else counts * sample_weight


def sum_over_replicas(values: Any) -> Any:
    """The sum over replicas, so that a replica with mostly ignored pixels counts less."""
    replica = _replica()
    if replica is None:
        return values
    import tensorflow as tf

    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


def share_of_replica(loss: Any) -> Any:
    """A loss divided by the number of replicas, because their gradients are added."""
    replica = _replica()
    return loss if replica is None else loss / replica.num_replicas_in_sync


def _replica():
    """TensorFlow's context of one replica of several, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    several = replica is not None and replica.num_replicas_in_sync > 1
    return replica if several else None
