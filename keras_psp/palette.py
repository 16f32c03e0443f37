"""Colors for classes."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from keras_psp.arguments import checked_integer

VOID_COLOR = (40, 40, 40)
"""Color of ignored pixels: a dark gray that `default_palette` avoids."""


def default_palette(num_classes: int) -> np.ndarray:
    """Colors that are easy to distinguish, also for people with color blindness.

    Each color is the one farthest in CIELAB from all colors before it, both for normal vision
    and for protanopia and deuteranopia, so a palette of 5 is the beginning of a palette of 20.
    Up to about 20 colors are distinct for everybody; of 60 or more, some look alike to people
    with color blindness.

    Args:
        num_classes: 1 to 256.

    Returns:
        (num_classes, 3) uint8, RGB.
    """
    num_classes = checked_integer("num_classes", num_classes, least=1, most=256)
    return _spread_colors()[:num_classes].copy()


def checked_palette(palette: Sequence | np.ndarray) -> np.ndarray:
    """Converts a palette to (n, 3) uint8, after checking its shape and values."""
    colors = np.asarray(palette)
    if colors.ndim != 2 or colors.shape[1] != 3 or not len(colors):
        raise ValueError(f"palette has shape {colors.shape}; it must be (num_classes, 3), RGB.")
    if not np.issubdtype(colors.dtype, np.integer):
        raise ValueError(f"palette has dtype {colors.dtype}; colors must be integers, 0 to 255.")
    if colors.min() < 0 or colors.max() > 255:
        raise ValueError(
            f"palette goes from {colors.min()} to {colors.max()}; colors must be from 0 to 255."
        )
    return colors.astype(np.uint8)


@lru_cache(maxsize=1)
def _spread_colors():
    """(256, 3) uint8: greedy farthest points among 18^3 RGB colors."""
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(_linear(rgb))
    # Colors close to black and white are hard to see in images and on page margins, and the
    # purest colors (chroma up to 133) stand out too much.
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    rgb = rgb[(lab[:, 0] > 25) & (lab[:, 0] < 92) & (chroma < 85)]

    seen = _as_seen(rgb)
    nearest = _distance(seen, _as_seen(np.array([VOID_COLOR]))[:, 0])
    chosen = [int(np.abs(rgb.astype(int) - (75, 120, 210)).sum(1).argmin())]  # a blue
    while len(chosen) < 256:
        nearest = np.minimum(nearest, _distance(seen, seen[:, chosen[-1]]))
        chosen.append(int(nearest.argmax()))
    return rgb[chosen]


# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
_PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
_DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)


def _as_seen(rgb):
    """(3, n, 3) CIELAB for normal vision, protanopia and deuteranopia.

    Dichromats distinguish fewer colors, so their distances count 1.5 times: with equal weights,
    colors would be closer for everybody.
    """
    linear = _linear(rgb)
    dichromatic = [
        _lab(np.clip(linear @ np.transpose(m), 0, 1)) for m in (_PROTANOPIA, _DEUTERANOPIA)
    ]
    return np.stack([_lab(linear), *(1.5 * lab for lab in dichromatic)])


def _distance(seen, point):
    """(n,) distances of (3, n, 3) colors from one (3, 3), the smallest of the three visions."""
    return np.linalg.norm(seen - point[:, None], axis=-1).min(axis=0)


def _linear(rgb):
    """Linear RGB from sRGB 0..255 (IEC 61966-2-1)."""
    encoded = rgb / 255.0
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    """CIELAB under D65 from linear RGB, (..., 3); distances there are perceived differences."""
    xyz = linear @ np.array(
        [
            [0.4124564, 0.2126729, 0.0193339],
            [0.3575761, 0.7151522, 0.1191920],
            [0.1804375, 0.0721750, 0.9503041],
        ]
    )
    ratio = xyz / (0.95047, 1.0, 1.08883)
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
