"""Expected calibration error: how far confidence is from accuracy."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_psp.arguments import checked_integer
from keras_psp.evaluation.checks import check_same_arguments
from keras_psp.files import written_aside
from keras_psp.metrics.confusion import ratio


class Reliability:
    """Accuracy of pixels, binned by the probability of their predicted class.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017, arXiv:1706.04599), section
    2: the bins have equal width, (0, 1/15], (1/15, 2/15], ..., and the error is the mean distance
    between a bin's accuracy and its mean probability, weighted by its number of pixels.

    `+` combines counts from several processes.

    Args:
        bins: number of bins; 15 in the paper.

    Attributes:
        counts: (bins,) int64 pixels.
        correct: (bins,) int64 pixels whose predicted class is correct.
        confidences: (bins,) float64 sums of the probabilities of the predicted class.

    Example:
        reliability = Reliability()
        reliability.update(np.array([0.9, 0.9]), np.array([True, False]))
        reliability.error  # 0.4
    """

    def __init__(self, bins: int = 15):
        self.bins = bins = checked_integer("bins", bins, least=1)
        self.counts = np.zeros(bins, np.int64)
        self.correct = np.zeros(bins, np.int64)
        self.confidences = np.zeros(bins)

    def update(self, probability: ArrayLike, is_correct: ArrayLike) -> None:
        """Counts pixels.

        Args:
            probability: probability of the predicted class, 0 to 1, of any shape.
            is_correct: bool, of the same shape.

        Raises:
            ValueError: if shapes differ or a probability isn't from 0 to 1.
        """
        values = np.asarray(probability, np.float64)
        right = np.asarray(is_correct, bool)
        if values.shape != right.shape:
            raise ValueError(
                f"probability has shape {values.shape} and is_correct {right.shape}; give one of "
                "each per pixel."
            )
        values, right = values.ravel(), right.ravel()
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("probability has values that aren't from 0 to 1; give a softmax.")
        index = np.clip(np.ceil(values * self.bins).astype(np.int64) - 1, 0, None)
        self.counts += np.bincount(index, minlength=self.bins)
        self.correct += np.bincount(index[right], minlength=self.bins)
        self.confidences += np.bincount(index, values, minlength=self.bins)

    def __add__(self, other: "Reliability") -> "Reliability":
        if not isinstance(other, Reliability):
            return NotImplemented
        check_same_arguments({"bins": self.bins}, {"bins": other.bins})
        left, right = self.arrays(), other.arrays()
        return Reliability.from_arrays({name: left[name] + right[name] for name in left})

    def arrays(self) -> dict[str, np.ndarray]:
        """All counts, e.g. for `np.savez(path, **reliability.arrays())`."""
        names = ("counts", "correct", "confidences")
        return {name: getattr(self, name).copy() for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Reliability":
        """Restores the counts that `arrays()` returned."""
        reliability = cls(len(arrays["counts"]))
        for name in ("counts", "correct", "confidences"):
            setattr(reliability, name, np.array(arrays[name]))
        return reliability

    @property
    def accuracy(self) -> np.ndarray:
        """(bins,) float64; NaN for a bin without pixels."""
        return ratio(self.correct, self.counts)

    @property
    def confidence(self) -> np.ndarray:
        """(bins,) float64, the mean probability; NaN for a bin without pixels."""
        return ratio(self.confidences, self.counts)

    @property
    def share(self) -> np.ndarray:
        """(bins,) float64 fractions of the pixels; NaN if there are none."""
        return ratio(self.counts, self.counts.sum())

    @property
    def mean_accuracy(self) -> float:
        """Fraction of the pixels whose class is right."""
        return float(ratio(self.correct.sum(), self.counts.sum()))

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the predicted class."""
        return float(ratio(self.confidences.sum(), self.counts.sum()))

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1; NaN if there are no pixels."""
        if not self.counts.any():
            return float("nan")
        return float(np.nansum(self.share * np.abs(self.accuracy - self.confidence)))

    def rows(self) -> list[tuple[float, float, float, float, float]]:
        """For each bin: its two edges, mean probability, accuracy and share of the pixels."""
        edges = np.arange(self.bins + 1) / self.bins
        columns = (edges[:-1], edges[1:], self.confidence, self.accuracy, self.share)
        return list(zip(*(column.tolist() for column in columns), strict=True))


def reliability_diagram(
    parts: Sequence[tuple[str, Reliability]], *, path: str | os.PathLike
) -> None:
    """Draws reliability diagrams side by side, each above a histogram of its pixels.

    The dots of a perfectly calibrated network are on the diagonal; a dot below it means that
    predictions are right less often than their probability says. Empty bins have no dot.

    Args:
        parts: title and counts of each diagram, from left to right.
        path: file to write; its suffix selects the format. An existing file is replaced atomically.

    Raises:
        ValueError: if there are no parts.
    """
    if not parts:
        raise ValueError("parts is empty; give the counts of at least one diagram.")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(parts), 5), layout="constrained")
    axes: Any = figure.subplots(
        2, len(parts), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (title, reliability), above, below in zip(parts, *axes, strict=True):
        edges = np.arange(reliability.bins + 1) / reliability.bins
        accuracy, confidence = reliability.accuracy, reliability.confidence
        known = np.isfinite(accuracy)
        width = 1 / reliability.bins
        above.plot((0, 1), (0, 1), color="0.6", linestyle="--", label="calibrated")
        above.bar(
            edges[:-1], accuracy, width, align="edge", color="tab:blue", alpha=0.35, edgecolor="0.4"
        )
        above.plot(confidence[known], accuracy[known], "o", color="tab:blue", label="accuracy")
        above.set_title(f"{title}\nexpected calibration error {100 * reliability.error:.2f} %")
        above.set_ylim(0, 1.02)
        below.bar(edges[:-1], reliability.share, width, align="edge", color="0.6", edgecolor="0.4")
        below.set_xlabel("probability of the predicted class")
        below.set_xlim(0, 1)
        for axis in (above, below):
            axis.grid(alpha=0.3)
            axis.set_axisbelow(True)
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("share of pixels")
    axes[0, 0].legend(loc="upper left")
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=110)
