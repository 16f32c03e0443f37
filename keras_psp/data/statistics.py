"""Mean and standard deviation of each band, by which a network normalizes its images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_psp.data.bands import channels_of, image_dtype_of
from keras_psp.progress import in_threads, with_bar


@dataclasses.dataclass(frozen=True)
class BandStatistics:
    """Statistics of all pixels of a split.

    Attributes:
        mean, std: one number per band, in the units of the files.
        dtype: NumPy name of the values' dtype.
        pixels: number of pixels.
    """

    mean: Sequence[float]
    std: Sequence[float]
    dtype: str
    pixels: int


def band_statistics(source: Any, split: str = "train", *, progress: bool = True) -> BandStatistics:
    """Measures mean and standard deviation of each band, over all pixels of a split.

    Each image is read once. Squares are summed about the running mean, as in Chan, Golub and
    LeVeque (1983), so that large values with a small spread lose no precision.

    Args:
        source: see `keras_psp.data.pipeline`.
        split: one of its splits.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: if a band has the same value everywhere.
    """
    channels, title = channels_of(source), "Measuring bands"
    if hasattr(source, "example"):
        indices = range(source.count(split))
        parts = in_threads(
            lambda index: _moments(source.example(split, index)[0]),
            indices,
            title,
            progress=progress,
        )
    else:
        examples = with_bar(source.examples(split), title, source.count(split), shown=progress)
        parts = (_moments(np.asarray(image)) for image, _ in examples)
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    for more, its_mean, its_squares in parts:
        total = count + more
        difference = its_mean - mean
        mean = mean + difference * (more / total)
        squares = squares + its_squares + difference**2 * (count * more / total)
        count = total
    std = np.sqrt(squares / count)
    if not std.all():
        band = int(np.flatnonzero(std == 0)[0])
        raise ValueError(
            f"band {band + 1} is {mean[band]:g} in all images of split {split!r}, so that it can't "
            "be normalized; leave it out of the files."
        )
    return BandStatistics(mean.tolist(), std.tolist(), image_dtype_of(source), count)


def _moments(image):
    """Number of pixels, mean, and squared distances from it, of each band."""
    pixels = np.reshape(image, (-1, image.shape[-1])).astype(np.float64)
    mean = pixels.mean(0)
    return len(pixels), mean, ((pixels - mean) ** 2).sum(0)
