"""Boundary IoU: intersection over union of the pixels near the boundary of each class."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_psp.evaluation.checks import check_same_arguments, checked_masks
from keras_psp.metrics.confusion import mean_of_present, ratio


class BoundaryIoU:
    """Boundary IoU of each class.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (CVPR
    2021, arXiv:2103.16562): the IoU of the boundaries of two masks, i.e. of their pixels within a
    distance d of the outside. As in the authors' boundary-iou-api, distances are those of a square
    neighborhood, d is rounded and at least one pixel, and everything beyond the image is outside.
    Their code compares objects; here the mask of a class in an image is one object, and
    intersections and unions are summed over all images before they are divided, as for IoU.

    Pixels of `ignore_class` are outside of every class in both labels and predictions, so a
    prediction's boundary follows them as the label's does.

    `+` combines counts from several processes.

    Args:
        num_classes: number of classes.
        dilation_ratio: d as a fraction of the image's diagonal; 0.02 in boundary-iou-api.
        ignore_class: label of the pixels that don't count, or None.

    Attributes:
        num_classes, dilation_ratio, ignore_class: the arguments.
        intersections: (num_classes,) int64 pixels in both boundaries.
        unions: (num_classes,) int64 pixels in at least one of them.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        boundary = BoundaryIoU(num_classes=2)
        boundary.update(np.eye(20, dtype=int), np.eye(20, dtype=int))
        boundary.result()  # 1.0
    """

    def __init__(
        self, num_classes: int, *, dilation_ratio: float = 0.02, ignore_class: int | None = 255
    ):
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}; at least 1 class is needed.")
        if not 0 < dilation_ratio < 1:
            raise ValueError(
                f"dilation_ratio={dilation_ratio}; it must be above 0 and below 1, a fraction of "
                "the image's diagonal."
            )
        self.num_classes = num_classes
        self.dilation_ratio = dilation_ratio
        self.ignore_class = ignore_class
        self.intersections = np.zeros(num_classes, np.int64)
        self.unions = np.zeros(num_classes, np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Counts one image.

        Args:
            truth: (height, width) integers; values outside the classes count as ignored.
            prediction: (height, width) integers; values outside the classes are outside of
                every class.

        Raises:
            ValueError: if an array is invalid.
        """
        truth, prediction = checked_masks(truth=truth, prediction=prediction)
        reach = max(1, round(self.dilation_ratio * float(np.hypot(*truth.shape))))
        n = self.num_classes
        void = (truth < 0) | (truth >= n)
        if self.ignore_class is not None:
            void |= truth == self.ignore_class
        no_class = void | (prediction < 0) | (prediction >= n)
        truth = np.where(void, n, truth.astype(np.int64))
        prediction = np.where(no_class, n, prediction.astype(np.int64))
        true_edge = (truth < n) & ~_inside(truth, reach)
        predicted_edge = (prediction < n) & ~_inside(prediction, reach)
        both = true_edge & predicted_edge & (truth == prediction)
        intersections = np.bincount(truth[both], minlength=n)
        self.intersections += intersections
        self.unions += np.bincount(truth[true_edge], minlength=n) - intersections
        self.unions += np.bincount(prediction[predicted_edge], minlength=n)

    def __add__(self, other: "BoundaryIoU") -> "BoundaryIoU":
        if not isinstance(other, BoundaryIoU):
            return NotImplemented
        check_same_arguments(self._arguments(), other._arguments())
        total = BoundaryIoU(**self._arguments())
        total.intersections = self.intersections + other.intersections
        total.unions = self.unions + other.unions
        return total

    def _arguments(self) -> dict[str, Any]:
        names = ("num_classes", "dilation_ratio", "ignore_class")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> dict[str, np.ndarray]:
        """All counts, e.g. for `np.savez(path, **boundary.arrays())`."""
        ignored = [] if self.ignore_class is None else [self.ignore_class]
        return {
            "intersections": self.intersections.copy(),
            "unions": self.unions.copy(),
            "dilation_ratio": np.array(self.dilation_ratio),
            "ignore_class": np.array(ignored, np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "BoundaryIoU":
        """Restores the counts that `arrays()` returned."""
        ignored = np.asarray(arrays["ignore_class"]).tolist()
        boundary = cls(
            len(arrays["unions"]),
            dilation_ratio=float(arrays["dilation_ratio"]),
            ignore_class=ignored[0] if ignored else None,
        )
        boundary.intersections = np.array(arrays["intersections"])
        boundary.unions = np.array(arrays["unions"])
        return boundary

    def per_class(self) -> np.ndarray:
        """(num_classes,) float64; NaN for a class absent from both labels and predictions."""
        return ratio(self.intersections, self.unions)

    def result(self) -> float:
        """Mean of `per_class` over the classes that occur."""
        return mean_of_present(self.per_class())


def _inside(classes, reach):
    """Pixels whose square neighborhood, 2 reach + 1 wide, has one class and is in the image.

    A neighborhood has one class if no two neighbors in it differ; sums over windows count these
    for all classes at once.
    """
    padded = np.pad(classes, reach, constant_values=-1)
    side = 2 * reach + 1
    across = window_sums(padded[:, 1:] != padded[:, :-1], side, side - 1)
    down = window_sums(padded[1:] != padded[:-1], side - 1, side)
    return (across == 0) & (down == 0)


def window_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums over all windows of a size, by an integral image."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int32)
    sums = sums.cumsum(axis=1, dtype=np.int32)
    return (
        sums[height:, width:]
        - sums[:-height, width:]
        - sums[height:, :-width]
        + sums[:-height, :-width]
    )
