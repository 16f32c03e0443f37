"""Boundary IoU: intersection over union of the pixels near the borders of each class."""

from collections.abc import Mapping

import numpy as np

from keras_psp.metrics.confusion import mean_of_present, ratio


class BoundaryIoU:
    """Boundary IoU of every class of a semantic segmentation.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation"
    (CVPR 2021, arXiv:2103.16562): the IoU of two masks' boundaries, which are their pixels
    no farther than d from the outside. As in the authors' boundary-iou-api, distance is
    that of a square neighbourhood, d is rounded and at least one pixel, and what lies
    beyond the image is outside. Theirs compares objects; here the mask of a class in an
    image is one object, and intersections and unions are summed over all images before
    they are divided, as for IoU.

    Pixels of `ignore_class` are outside of every class, in the labels and in the
    predictions: a prediction's boundary runs along them as the label's does.

    Two of them from parts of a data set are added with `+`, and can be pickled to get there.

    Args:
        num_classes: number of classes.
        dilation_ratio: d as a share of the image's diagonal; 0.02 in boundary-iou-api.
        ignore_class: label whose pixels don't count, or None.

    Attributes:
        num_classes, dilation_ratio, ignore_class: as given.
        intersections: (num_classes,) int64 pixels that both boundaries have.
        unions: (num_classes,) int64 pixels that at least one of them has.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        dilation_ratio: float = 0.02,
        ignore_class: int | None = 255,
    ):
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}; at least 1 class is needed.")
        if not 0 < dilation_ratio < 1:
            raise ValueError(
                f"dilation_ratio={dilation_ratio}; it must be above 0 and below 1, a share of "
                "the image's diagonal."
            )
        self.num_classes = num_classes
        self.dilation_ratio = dilation_ratio
        self.ignore_class = ignore_class
        self.intersections = np.zeros(num_classes, np.int64)
        self.unions = np.zeros(num_classes, np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Count one image.

        Args:
            truth: (height, width) integers; values that are no class count like `ignore_class`.
            prediction: (height, width) integers; other values than class indices are
                outside of every class.

        Raises:
            ValueError: the arrays aren't so.
        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        for name, values in (("truth", truth), ("prediction", prediction)):
            if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
                raise ValueError(
                    f"{name} has shape {values.shape} and dtype {values.dtype}; it must be "
                    "(height, width) integers."
                )
        if truth.shape != prediction.shape:
            raise ValueError(
                f"prediction has shape {prediction.shape} and truth {truth.shape}; both must "
                "have the image's size."
            )
        reach = max(1, round(self.dilation_ratio * float(np.hypot(*truth.shape))))
        n = self.num_classes
        void = (truth < 0) | (truth >= n)
        if self.ignore_class is not None:
            void |= truth == self.ignore_class
        no_class = void | (prediction < 0) | (prediction >= n)
        truth = np.where(void, n, truth).astype(np.int64)
        prediction = np.where(no_class, n, prediction).astype(np.int64)
        edge = (truth < n) & ~_inside(truth, reach)
        found = (prediction < n) & ~_inside(prediction, reach)
        both = edge & found & (truth == prediction)
        intersections = np.bincount(truth[both], minlength=n)
        self.intersections += intersections
        self.unions += np.bincount(truth[edge], minlength=n) - intersections
        self.unions += np.bincount(prediction[found], minlength=n)

    def __add__(self, other: "BoundaryIoU") -> "BoundaryIoU":
        if not isinstance(other, BoundaryIoU):
            return NotImplemented
        options = {}
        for name in ("num_classes", "dilation_ratio", "ignore_class"):
            options[name], theirs = getattr(self, name), getattr(other, name)
            if options[name] != theirs:
                raise ValueError(
                    f"{name} is {options[name]} on one side of + and {theirs} on the other; add "
                    "counts of the same options only."
                )
        total = BoundaryIoU(**options)
        total.intersections = self.intersections + other.intersections
        total.unions = self.unions + other.unions
        return total

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was counted, for `np.savez(path, **boundary.arrays())`."""
        ignored = [] if self.ignore_class is None else [self.ignore_class]
        return {
            "intersections": self.intersections.copy(),
            "unions": self.unions.copy(),
            "dilation_ratio": np.array(self.dilation_ratio),
            "ignore_class": np.array(ignored, np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "BoundaryIoU":
        """One like that whose `arrays()` these are."""
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
        """(num_classes,) float64; NaN for a class in neither labels nor predictions."""
        return ratio(self.intersections, self.unions)

    def result(self) -> float:
        """Mean over classes of `per_class`, absent classes left out."""
        return mean_of_present(self.per_class())


def _inside(classes, reach):
    """Pixels whose neighbourhood, (2 reach + 1) squared, has one class and is in the image.

    It has one class where no two neighbours in it differ, which sums over windows count
    for all classes at once.
    """
    padded = np.pad(classes, reach, constant_values=-1)
    side = 2 * reach + 1
    across = _window_sums(padded[:, 1:] != padded[:, :-1], side, side - 1)
    down = _window_sums(padded[1:] != padded[:-1], side - 1, side)
    return (across == 0) & (down == 0)


def _window_sums(values, height, width):
    """Sums over all windows of that size, by an integral image."""
    sums = np.pad(values.astype(np.int32).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return (
        sums[height:, width:]
        - sums[:-height, width:]
        - sums[height:, :-width]
        + sums[:-height, :-width]
    )
