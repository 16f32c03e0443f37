"""Mean intersection over union and related measures from one confusion matrix."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.metrics import confusion

# Counts are stored as high * LIMB + low, because JAX has no int64 by default and float32 is
# exact only up to 2^24. Low limbs below 2^24 can be summed over 127 replicas in int32.
LIMB = 2**24


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
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}; at least 2 classes are needed.")
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        # The last column counts predictions outside the classes, which are errors of their label.
        shape = (num_classes, num_classes + 1)
        # "int" is int64 on TensorFlow, which has no int32 variables in compiled GPU code.
        self.low = self.add_variable(shape, "zeros", dtype="int", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="int", name="high")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: None = None) -> None:
        if sample_weight is not None:
            raise ValueError("MeanIoU counts pixels; pass sample_weight to the loss instead.")
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_true.shape) == 4 and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
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
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        classes = ops.reshape(ops.cast(y_pred, "int32"), (-1,))
        n = self.num_classes
        counted = ops.logical_and(labels >= 0, labels < n)
        classes = ops.where(ops.logical_and(classes >= 0, classes < n), classes, n)
        if self.ignore_class is not None:
            counted = ops.logical_and(counted, labels != self.ignore_class)
        # One extra cell at the end collects the pixels that don't count.
        cells = n * (n + 1)
        cell = ops.where(counted, labels * (n + 1) + classes, cells)
        counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=cells + 1)
        low = self.low + ops.cast(ops.reshape(counts[:-1], (n, n + 1)), self.low.dtype)
        carry = low // LIMB
        self.low.assign(low - carry * LIMB)
        self.high.assign(self.high + carry)

    def result(self) -> Any:
        matrix = ops.cast(self.high, "float32") * LIMB + ops.cast(self.low, "float32")
        intersection = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0)[:-1] + ops.sum(matrix, axis=1) - intersection
        present = ops.cast(union > 0, "float32")
        iou = intersection / ops.maximum(union, 1.0)
        return ops.sum(iou) / ops.maximum(ops.sum(present), 1.0)

    def confusion_matrix(self, *, others: bool = False) -> np.ndarray:
        """(num_classes, num_classes) int64 counts: rows are labels, columns are predictions.

        Predictions outside the classes are in none of these columns, but count as errors of
        their label in every measure.

        Args:
            others: whether to add a last column with these predictions, which
                `evaluation.Measures` then counts as well.
        """
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
