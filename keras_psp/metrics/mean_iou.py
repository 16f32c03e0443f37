"""Mean intersection over union and related measures from one confusion matrix."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.arguments import checked_integer
from keras_psp.layers.labels import integer_labels, known_values
from keras_psp.metrics import confusion

# Counts are stored as high * LIMB + low, because JAX has no int64 by default and float32 is
# exact only up to 2^24. Low limbs below 2^24 can be summed over 127 replicas in int32.
LIMB = 2**24
# Labels that are neither a class nor ignored have a count each, up to this one.
LARGEST_LABEL = 255


@keras.saving.register_keras_serializable("keras_psp")
class MeanIoU(keras.metrics.Metric):
    """Mean intersection over union, exact for any number of pixels.

    Computed from one confusion matrix over everything since the last reset, not as a mean over
    batches. The mean leaves out classes that occur in neither labels nor predictions (semseg's
    `intersectionAndUnion` counts them as 0).

    Args:
        num_classes: number of classes.
        ignore_class: label of the pixels to ignore, or None.

    Call arguments of `update_state`:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: class ids of the same shape, or scores (..., num_classes).
        sample_weight: not supported.

    `result()` is the mean IoU, a float32 scalar. The other methods return NumPy values.

    Raises:
        ValueError: if an argument is invalid; also by `result()` and the other measures, if a
            label was neither a class nor ignored. (In a compiled step, `result()` is NaN.)

    Example:
        metric = MeanIoU(num_classes=3)
        metric.update_state(np.array([[[0, 1, 255]]]), np.array([[[0, 1, 2]]]))
        metric.result()  # 1.0
    """

    # Tells a PSPNet to pass class ids instead of full-size logits.
    accepts_class_ids = True

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_class: int | None = 255,
        name: str = "mean_iou",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.num_classes = checked_integer("num_classes", num_classes, least=2)
        if ignore_class is not None:
            ignore_class = checked_integer("ignore_class", ignore_class)
        self.ignore_class = ignore_class
        # Keras' callbacks read it: the best value is the largest.
        self._direction = "up"
        # The last column counts predictions outside the classes, which are errors of their label.
        shape = (self.num_classes, self.num_classes + 1)
        # "int" is int64 on TensorFlow, which has no int32 variables in compiled GPU code.
        self.low = self.add_variable(shape, "zeros", dtype="int", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="int", name="high")
        # Pixels by invalid label: a negative one, 0..LARGEST_LABEL, or a larger one.
        self.invalid = self.add_variable((LARGEST_LABEL + 3,), "zeros", dtype="int", name="invalid")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: None = None) -> None:
        if sample_weight is not None:
            raise ValueError("MeanIoU counts pixels; pass sample_weight to the loss instead.")
        if isinstance(y_pred, dict):
            raise ValueError(
                f"y_pred is a dict of {', '.join(y_pred)}, which a PSPNet returns with "
                "training=True; call model.compute_metrics(x, y, y_pred), or update the metrics in "
                "model.metrics."
            )
        y_true, y_pred = integer_labels(y_true), ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) == len(y_true.shape) + 1:
            if y_pred.shape[-1] == self.num_classes:
                y_pred = ops.argmax(y_pred, axis=-1)
            elif y_pred.shape[-1] == 1:
                y_pred = ops.squeeze(y_pred, axis=-1)
        if len(y_pred.shape) != len(y_true.shape):
            raise ValueError(
                f"y_pred has shape {tuple(y_pred.shape)} and y_true {tuple(y_true.shape)}; give "
                f"class ids of y_true's shape or scores of {self.num_classes} classes."
            )
        labels = ops.reshape(y_true, (-1,))
        classes = ops.reshape(integer_labels(y_pred, "y_pred"), (-1,))
        n = self.num_classes
        counted = ops.logical_and(labels >= 0, labels < n)
        classes = ops.where(ops.logical_and(classes >= 0, classes < n), classes, n)
        ignored = ops.zeros_like(counted)
        if self.ignore_class is not None:
            ignored = labels == self.ignore_class
        # After the matrix, one cell for ignored pixels and one for each invalid label.
        cells = n * (n + 1)
        invalid = cells + 2 + ops.clip(labels, -1, LARGEST_LABEL + 1)
        cell = ops.where(counted, labels * (n + 1) + classes, invalid)
        cell = ops.where(ignored, cells, cell)
        size = cells + 1 + self.invalid.shape[0]
        counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=size)
        low = self.low + ops.cast(ops.reshape(counts[:cells], (n, n + 1)), self.low.dtype)
        carry = low // LIMB
        self.low.assign(low - carry * LIMB)
        self.high.assign(self.high + carry)
        # Only whether there are any is stored, so the sum over many batches can't overflow.
        found = ops.cast(counts[cells + 1 :] > 0, self.invalid.dtype)
        self.invalid.assign(ops.maximum(self.invalid, found))

    def result(self) -> Any:
        self._check_labels()
        matrix = ops.cast(self.high, "float32") * LIMB + ops.cast(self.low, "float32")
        intersection = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0)[:-1] + ops.sum(matrix, axis=1) - intersection
        present = ops.cast(union > 0, "float32")
        iou = intersection / ops.maximum(union, 1.0)
        mean = ops.sum(iou) / ops.maximum(ops.sum(present), 1.0)
        return ops.where(ops.any(self.invalid > 0), ops.cast(float("nan"), mean.dtype), mean)

    def _check_labels(self):
        """Raises ValueError if a label was neither a class nor ignored, outside of graphs."""
        known = known_values(self.invalid)
        if known is None or not known.any():
            return
        first, n = int(np.flatnonzero(known)[0]) - 1, self.num_classes
        label = "a negative label" if first < 0 else f"the label {first}"
        if first > LARGEST_LABEL:
            label = f"a label above {LARGEST_LABEL}, or one that isn't a whole number,"
        raise ValueError(
            f"a mask holds {label}, which is neither one of the {n} classes (0..{n - 1}) nor the "
            f"ignored label ({self.ignore_class}); relabel the masks, raise num_classes, or give "
            "ignore_class."
        )

    def confusion_matrix(self, *, others: bool = False) -> np.ndarray:
        """(num_classes, num_classes) int64 counts: rows are labels, columns are predictions.

        Predictions outside the classes are in none of these columns, but count as errors of
        their label in every measure.

        Args:
            others: whether to add a last column with these predictions, which
                `evaluation.Measures` then counts as well.
        """
        self._check_labels()
        high = ops.convert_to_numpy(self.high).astype("int64")
        counts = high * LIMB + ops.convert_to_numpy(self.low)
        return counts if others else counts[:, :-1]

    def per_class_iou(self) -> np.ndarray:
        """(num_classes,) float64; NaN for a class absent from both labels and predictions."""
        return confusion.per_class_iou(self.confusion_matrix(others=True))

    def per_class_accuracy(self) -> np.ndarray:
        """(num_classes,) float64 recall; NaN for a class absent from the labels."""
        return confusion.per_class_accuracy(self.confusion_matrix(others=True))

    def pixel_accuracy(self) -> float:
        """Fraction of the counted pixels that are correct; NaN if there are none."""
        return confusion.pixel_accuracy(self.confusion_matrix(others=True))

    def class_accuracy(self) -> float:
        """Mean of `per_class_accuracy` over the classes in the labels."""
        return confusion.mean_of_present(self.per_class_accuracy())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
        }
