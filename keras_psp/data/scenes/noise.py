"""Random numbers and noise for the generated scenes."""

import functools
from collections.abc import Sequence

import numpy as np

SAND, LEAVES, CLOUDS = 0.4, 1.0, 1.7
"""Exponents of the noise's spectrum: the larger, the smoother."""

_TILE_SIDE = 512
_STREAMS = ("kinds", "plan", "paint", "surface", "skyline", "camera", "wants")


def random_stream(seed: int, step: str, attempt: int = 0) -> np.random.Generator:
    """Returns a generator for one step, so that its draws don't change those of others."""
    return np.random.default_rng([1 + _STREAMS.index(step), attempt, int(seed)])


def random_color(
    rng: np.random.Generator, low: Sequence[float], high: Sequence[float]
) -> np.ndarray:
    """Draws a color between two colors, (3,) float32."""
    return rng.uniform(low, high).astype(np.float32)


def noise_at(
    exponent: float, rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Looks up noise at texel coordinates, broadcast and shifted by a random offset."""
    down, right = rng.integers(_TILE_SIDE, size=2)
    last = _TILE_SIDE - 1
    rows = (rows.astype(np.int32) + down) & last
    columns = (columns.astype(np.int32) + right) & last
    return _noise_tile(exponent)[rows, columns]


@functools.cache
def _noise_tile(exponent):
    """Makes tileable fractal noise, (512, 512) float32, with mean 0 and deviation 1."""
    rng = np.random.default_rng(int(exponent * 10))
    frequency = np.fft.fftfreq(_TILE_SIDE, 1 / _TILE_SIDE)
    radius = np.hypot(frequency[:, None], frequency[None, : _TILE_SIDE // 2 + 1])
    radius[0, 0] = 1
    # Lower frequencies would make one side of an image brighter than the other.
    gain = radius**-exponent * (radius >= 4)
    white = rng.standard_normal((_TILE_SIDE, _TILE_SIDE))
    noise = np.fft.irfft2(np.fft.rfft2(white) * gain, s=white.shape)
    return np.clip(noise / noise.std(), -3, 3).astype(np.float32)
