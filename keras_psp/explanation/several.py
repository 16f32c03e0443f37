"""Explains several images with an opened network; their mean replaces the levels."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from keras_psp.explanation.reference import Reference, RunningMean
from keras_psp.explanation.result import Explanation
from keras_psp.explanation.run import explained
from keras_psp.prediction.segmenter import Segmenter

_KEPT_BYTES = 2**28  # of maps in memory until the mean is known


def explained_together(segmenter: Segmenter, images: Sequence[np.ndarray]) -> Iterator[Explanation]:
    """Yields the explanation of each image; the levels are replaced by their mean over all images.

    The network runs once per image, or twice for images whose maps no longer fit into 256 MB. For
    a single image, the mean is over its positions, see `explain`.

    Args:
        segmenter: its protocol must have a single view.
        images: (height, width, channels) each.
    """
    mean, room = RunningMean(segmenter), _KEPT_BYTES
    kept: list[Explanation | None] = []
    for image in images:
        explanation = explained(segmenter, image, "image")
        mean.add_means(explanation.image_means)
        room -= explanation.nbytes
        kept.append(explanation if room >= 0 else None)
    reference: Reference = mean.result() if len(images) > 1 else "image"
    for number, image in enumerate(images):
        known, kept[number] = kept[number], None
        if known is None:
            yield explained(segmenter, image, reference)
        else:
            yield dataclasses.replace(known, _reference=reference)
