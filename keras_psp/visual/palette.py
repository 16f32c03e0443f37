"""Colours for classes."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

VOID_COLOUR = (40, 40, 40)
"""Pixels of the ignored class: a dark grey that `default_palette` stays away from."""


def default_palette(num_classes: int) -> np.ndarray:
    """Colours that are easy to tell apart.

    Each next colour is the one farthest, in Oklab, from all before it, so a palette
    of 5 is the beginning of one of 20.

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
    lab = _oklab(rgb)
    # Near black and near white drown in photographs and in the margins, and the
    # purest colours (chroma up to 0.32) outshine everything else.
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > 0.35) & (lab[:, 0] < 0.93) & (chroma < 0.19)
    rgb, lab = rgb[usable], lab[usable]

    nearest = np.linalg.norm(lab - _oklab(np.array([VOID_COLOUR])), axis=1)
    chosen = [int(np.abs(rgb.astype(int) - (75, 120, 210)).sum(1).argmin())]  # a blue
    while len(chosen) < 256:
        distance = np.linalg.norm(lab - lab[chosen[-1]], axis=1)
        nearest = np.minimum(nearest, distance)
        chosen.append(int(nearest.argmax()))
    return rgb[chosen]


def _oklab(rgb):
    """From sRGB, (..., 3), 0 to 255, to Oklab (Ottosson 2020), where distance is difference."""
    encoded = rgb / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
