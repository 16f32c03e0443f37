"""Class weights from the numbers of pixels of each class."""

import numpy as np
from numpy.typing import ArrayLike


def median_frequency_weights(pixel_counts: ArrayLike) -> np.ndarray:
    """Median frequency balancing, for `UpsampledCrossentropy(class_weights=...)`.

    The weight of a class is the median frequency of all classes divided by its frequency,
    which is its fraction of the pixels in the images where it occurs (Eigen and Fergus, ICCV
    2015; SegNet for CamVid).

    Args:
        pixel_counts: (images, classes) numbers of pixels, best without ignored ones.

    Returns:
        (classes,) float64; 0 for a class without pixels, which is left out of the median.

    Raises:
        ValueError: if the counts have another shape, are negative or are all 0.

    Example:
        masks = [np.array([[0, 0], [0, 1]]), np.array([[0, 1], [255, 255]])]
        counts = [np.bincount(mask[mask != 255], minlength=2) for mask in masks]
        loss = UpsampledCrossentropy(class_weights=median_frequency_weights(counts))
    """
    try:
        counts = np.asarray(pixel_counts, "float64")
    except (TypeError, ValueError):
        counts = np.empty(())
    valid = np.isfinite(counts) & (counts >= 0)
    if counts.ndim != 2 or not valid.all() or not counts.any():
        raise ValueError(
            f"pixel_counts has shape {counts.shape}; give one row per image with the pixels of "
            "each class, none negative and not all 0."
        )
    weights = np.zeros(counts.shape[1])
    present = counts.any(axis=0)
    frequency = counts.sum(axis=0)[present] / (counts.sum(axis=1) @ (counts[:, present] > 0))
    weights[present] = np.median(frequency) / frequency
    return weights
