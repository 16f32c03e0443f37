"""TODO."""

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


_BANK_SIDE = 512


_STREAMS = {
    "kinds": 1,
    "plan": 2,
    "paint": 3,
    "surface": 4,
    "skyline": 5,
    "camera": 6,
    "wants": 7,
}


def _rng(seed, stream, attempt=0):
    """An independent generator for one step, so that what one step draws can't
    shift what another one does.
    """
    return np.random.default_rng([_STREAMS[stream], attempt, int(seed)])


@functools.cache
def _bank(exponent):
    """Tileable fractal noise, (512, 512) float32, mean 0 and deviation 1.

    Its amplitude falls with frequency to the power -exponent: 0.4 is sand, 1.0
    foliage, 1.7 clouds. Scenes look up pieces of it instead of making noise.
    """
    rng = np.random.default_rng(int(exponent * 10))
    frequency = np.fft.fftfreq(_BANK_SIDE, 1 / _BANK_SIDE)
    radius = np.hypot(frequency[:, None], frequency[None, : _BANK_SIDE // 2 + 1])
    radius[0, 0] = 1
    # Below 4 periods a bank there'd be a single bright or dark side per picture.
    gain = radius**-exponent * (radius >= 4)
    noise = np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((_BANK_SIDE, _BANK_SIDE))) * gain,
        s=(_BANK_SIDE, _BANK_SIDE),
    )
    return np.clip(noise / noise.std(), -3, 3).astype(np.float32)


SAND, LEAVES, CLOUDS = 0.4, 1.0, 1.7


def _look_up(bank, rng, rows, columns):
    """Noise at the texel coordinates rows x columns (broadcast) from a random
    offset.
    """
    down, right = rng.integers(_BANK_SIDE, size=2)
    side = _BANK_SIDE - 1
    rows = (rows.astype(np.int32) + down) & side
    columns = (columns.astype(np.int32) + right) & side
    return _bank(bank)[rows, columns]


def _colour(rng, low, high):
    return rng.uniform(low, high).astype(np.float32)
