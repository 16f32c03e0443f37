"""Mean intersection over union and its relatives, from one confusion matrix."""

import keras
import numpy as np
from keras import ops

from keras_psp.metrics import confusion

# Counts are kept as high * LIMB + low: JAX has no int64 by default and float32 loses
# counts past 2^24. A low limb below 2^24 can still be summed over 127 replicas in int32.
LIMB = 2**24


@keras.saving.register_keras_serializable("keras_psp")
class MeanIoU(keras.metrics.Metric):
    """Mean intersection over union, exact for any number of pixels.

    One confusion matrix over everything seen since the last reset, never a mean of
    batch means. Classes that occur neither in the labels nor in the predictions are
    left out of the mean. (semseg's `intersectionAndUnion` counts them as 0.)

    Args:
        num_classes: number of classes.
        ignore_class: label whose pixels are left out, or None.

    Call arguments of `update_state`:
        y_true: (batch, height, width) or (batch, height, width, 1) integer labels.
        y_pred: class ids of the labels' shape, or scores (..., num_classes).
        sample_weight: refused; a weighted count is no count.

    `result()` is the mean IoU, a float32 scalar; the methods below give the rest.
    """

    # A PSPNet then passes class ids instead of full-size logits.
    accepts_class_ids = True

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_class: int | None = 255,
        name: str = "mean_iou",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}; at least 2 classes are needed.")
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        # The last column counts predictions that are no class: errors of their label.
        shape = (num_classes, num_classes + 1)
        # "int" is int64 on TensorFlow, whose compiled GPU code can't hold int32 variables.
        self.low = self.add_variable(shape, "zeros", dtype="int", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="int", name="high")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                "MeanIoU counts pixels and takes no sample_weight; pass it to the loss."
            )
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
        # The last, extra cell takes what is not counted.
        cells = n * (n + 1)
        cell = ops.where(counted, labels * (n + 1) + classes, cells)
        counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=cells + 1)
        low = self.low + ops.cast(ops.reshape(counts[:-1], (n, n + 1)), self.low.dtype)
        carry = low // LIMB
        self.low.assign(low - carry * LIMB)
        self.high.assign(self.high + carry)

    def result(self):
        matrix = self._float_matrix()
        intersection = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0)[:-1] + ops.sum(matrix, axis=1) - intersection
        present = ops.cast(union > 0, "float32")
        iou = intersection / ops.maximum(union, 1.0)
        return ops.sum(iou) / ops.maximum(ops.sum(present), 1.0)

    def _float_matrix(self):
        return ops.cast(self.high, "float32") * LIMB + ops.cast(self.low, "float32")

    def confusion_matrix(self, *, others: bool = False) -> np.ndarray:
        """(num_classes, num_classes) int64 counts: row the label, column the prediction.

        A prediction that is none of the classes is in no column, yet counts against its
        label in every measure.

        Args:
            others: add a last column with those predictions, so that `evaluation.Measures`
                counts them too.
        """
        high = ops.convert_to_numpy(self.high).astype("int64")
        counts = high * LIMB + ops.convert_to_numpy(self.low)
        return counts if others else counts[:, :-1]

    def per_class_iou(self) -> np.ndarray:
        """(num_classes,) float64; NaN for a class in neither labels nor predictions."""
        return confusion.per_class_iou(self.confusion_matrix(others=True))

    def per_class_accuracy(self) -> np.ndarray:
        """(num_classes,) float64 recall; NaN for a class that is in no label."""
        return confusion.per_class_accuracy(self.confusion_matrix(others=True))

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are right; NaN before any was counted."""
        return confusion.pixel_accuracy(self.confusion_matrix(others=True))

    def class_accuracy(self) -> float:
        """Mean over classes of `per_class_accuracy`, absent classes left out."""
        return confusion.mean_of_present(self.per_class_accuracy())

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
        }
