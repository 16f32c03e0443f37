"""Positions of sliding windows and bilinear resizing, as in semseg/tool/test.py."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image


def scaled_size(height: int, width: int, scale: float, base_size: int | None) -> tuple[int, int]:
    """Returns the size of an image at a scale, with its proportions kept to the nearest pixel.

    `base_size` is the length of the longer side at scale 1; None for the image's own.
    """
    longer = max(1, round(scale * (base_size or max(height, width))))
    if height > width:
        return longer, max(1, round(longer / height * width))
    return max(1, round(longer / width * height)), longer


@dataclass
class Axis:
    """Windows of `crop` pixels along the height or the width of a scaled image.

    An image shorter than `crop` is padded on both sides: by `before` pixels before it, to the
    length `padded`. `starts` are the first pixels of the windows in the padded image.
    """

    length: int
    crop: int
    overlap: float

    def __post_init__(self):
        missing = max(self.crop - self.length, 0)
        self.before = missing // 2
        self.padded = self.length + missing
        # Rounded: 465 * (1 - 1/3) is 310 and not the 310.00000000000006 of floats.
        stride = max(1, math.ceil(round(self.crop * (1 - self.overlap), 6)))
        count = math.ceil((self.padded - self.crop) / stride) + 1
        self.starts = [min(i * stride, self.padded - self.crop) for i in range(count)]

    def shares(self) -> np.ndarray:
        """Returns (padded,) float64: one over the number of windows that contain each pixel."""
        counts = np.zeros(self.padded)
        for start in self.starts:
            counts[start : start + self.crop] += 1
        return 1 / counts

    def windows_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Finds the windows that contain pixels of the scaled image, at (n,) positions.

        Returns (k, n) window, (k, n) pixel in the window and (k, n) share; the share is 0 where
        fewer than k windows contain a pixel.
        """
        position = np.asarray(positions) + self.before
        starts = np.asarray(self.starts)[:, None]
        inside = (position >= starts) & (position < starts + self.crop)
        share = self.shares()[position]
        order = np.argsort(~inside, axis=0, kind="stable")[: int(inside.sum(axis=0).max())]
        seen = np.take_along_axis(inside, order, axis=0)
        offset = np.where(seen, position - np.take(starts[:, 0], order), 0)
        return order, offset, seen * share


def resize_taps(size: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bilinear resizing along one axis as OpenCV's INTER_LINEAR (pixel centers, no antialiasing).

    Returns (target,) indices of the two pixels next to each target pixel, and the share of the
    second one.
    """
    position = (np.arange(target) + 0.5) * size / target - 0.5
    position = np.clip(position, 0, size - 1)
    first = np.minimum(np.floor(position).astype(np.int64), max(size - 2, 0))
    return first, np.minimum(first + 1, size - 1), position - first


def resized(image: np.ndarray, size: tuple[int, int], *, antialias: bool = False) -> np.ndarray:
    """Resizes an image, (height, width, channels) float32, as `resize_taps` describes.

    With `antialias`, shrinking averages with triangular weights, as tf.image.resize does.
    """
    if antialias and image.shape[:2] != tuple(size):
        bands = map(Image.fromarray, np.moveaxis(image, -1, 0))
        resample = Image.Resampling.BILINEAR
        return np.stack([np.asarray(b.resize(size[::-1], resample)) for b in bands], axis=-1)
    for axis in (0, 1):
        if image.shape[axis] != size[axis]:
            first, second, share = resize_taps(image.shape[axis], size[axis])
            share = share.astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
            a, b = np.take(image, first, axis=axis), np.take(image, second, axis=axis)
            b -= a
            b *= share
            a += b
            image = a
    return image
