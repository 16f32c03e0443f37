"""Colours for classes."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

VOID_COLOR = (40, 40, 40)
"""Pixels of the ignored class: a dark grey that `default_palette` stays away from."""


def default_palette(num_classes: int) -> np.ndarray:
    """Colours that are easy to tell apart, without red or green cones too.

    Each next colour is the one farthest from all before it in CIELAB, as most people see
    them and as those with protanopia or deuteranopia do, so a palette of 5 is the beginning
    of one of 20. Up to about 20 classes nobody confuses two; of 60 or more some look alike
    to the colour-blind.

    Args:
        num_classes: 1 to 256.

    Returns:
        (num_classes, 3) uint8, RGB.
    """
    if (
        isinstance(num_classes, bool)
        or not isinstance(num_classes, (int, np.integer))
        or not 1 <= num_classes <= 256
    ):
        raise ValueError(f"num_classes is {num_classes!r}; it must be an integer from 1 to 256.")
    return _spread_colours()[:num_classes].copy()


def checked_palette(palette: Sequence | np.ndarray) -> np.ndarray:
    """(n, 3) uint8 from anything like it, or a ValueError that says what it is."""
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or not len(colours):
        raise ValueError(f"palette has shape {colours.shape}; it must be (num_classes, 3), RGB.")
    if not np.issubdtype(colours.dtype, np.integer):
        raise ValueError(f"palette has dtype {colours.dtype}; colours must be integers, 0 to 255.")
    if colours.min() < 0 or colours.max() > 255:
        raise ValueError(
            f"palette goes from {colours.min()} to {colours.max()}; colours must be from 0 to 255."
        )
    return colours.astype(np.uint8)


@lru_cache(maxsize=1)
def _spread_colours():
    """(256, 3) uint8: greedy farthest points among 18^3 RGB colours."""
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(_linear(rgb))
    # Near black and near white drown in photographs and in the margins, and the
    # purest colours (chroma up to 133) outshine everything else.
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    rgb = rgb[(lab[:, 0] > 25) & (lab[:, 0] < 92) & (chroma < 85)]

    seen = _as_seen(rgb)
    nearest = _distance(seen, _as_seen(np.array([VOID_COLOR]))[:, 0])
    chosen = [int(np.abs(rgb.astype(int) - (75, 120, 210)).sum(1).argmin())]  # a blue
    while len(chosen) < 256:
        nearest = np.minimum(nearest, _distance(seen, seen[:, chosen[-1]]))
        chosen.append(int(nearest.argmax()))
    return rgb[chosen]


# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB: no red cones, no green ones.
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
    """(3, n, 3) CIELAB: as most people see it, without red cones, without green ones.

    Two dimensions hold fewer colours than three, so distances between the latter two count
    one and a half times; all alike would take from everybody what few can't see.
    """
    linear = _linear(rgb)
    dichromatic = [
        _lab(np.clip(linear @ np.transpose(m), 0, 1)) for m in (_PROTANOPIA, _DEUTERANOPIA)
    ]
    return np.stack([_lab(linear), *(1.5 * lab for lab in dichromatic)])


def _distance(seen, point):
    """Of n colours from one, to whom they are most alike: (3, n, 3) and (3, 3) to (n,)."""
    return np.linalg.norm(seen - point[:, None], axis=-1).min(axis=0)


def _linear(rgb):
    """Light from sRGB, 0 to 255 (IEC 61966-2-1)."""
    encoded = rgb / 255.0
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    """CIELAB under D65, where distance is difference, of linear RGB, (..., 3)."""
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
