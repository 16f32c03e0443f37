"""Class weights from how many pixels each class has."""

import numpy as np


def median_frequency_weights(pixel_counts):
    """Median frequency balancing, for `UpsampledCrossentropy(class_weights=...)`.

    The weight of a class is the median of all classes' frequencies over its own, where the
    frequency is the share of its pixels in the images that have any (Eigen and Fergus, ICCV
    2015; SegNet for CamVid).

        counts = [np.bincount(mask[mask != 255], minlength=classes) for mask in masks]

    Args:
        pixel_counts: (images, classes) labelled pixels; ignored ones are best left out.

    Returns:
        (classes,) float64. 0 for a class without pixels, which the median leaves out.

    Raises:
        ValueError: for counts of another shape, negative ones or none at all.
    """
    counts = np.asarray(pixel_counts, "float64")
    if counts.ndim != 2 or not (counts >= 0).all() or not counts.any():
        raise ValueError(
            f"pixel_counts has shape {counts.shape}; give one row of pixels a class for each "
            "image, none negative and not all 0."
        )
    weights = np.zeros(counts.shape[1])
    there = counts.any(axis=0)
    frequency = counts.sum(axis=0)[there] / (counts.sum(axis=1) @ (counts[:, there] > 0))
    weights[there] = np.median(frequency) / frequency
    return weights
