"""The settings a network is tested with."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from keras_psp.arguments import LARGEST_SIDE, checked_flag, checked_integer

SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of the paper's multi-scale results, with flip (semseg, config/ade20k/*.yaml)."""


class ProtocolFields(TypedDict, total=False):
    """The fields of `Protocol` as keyword arguments."""

    scales: Sequence[float]
    flip: bool
    crop: int | None
    overlap: float
    base_size: int | Literal["auto"] | None
    batch_size: int
    antialias: bool | Literal["auto"]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How images are resized, cut into windows and averaged; the default is one whole view.

    Args:
        scales: factors of the image's size, whose predictions are averaged.
        flip: average each window with its mirror image.
        crop: side of a sliding window, e.g. 473, or 713 for Cityscapes: the size the network
            was trained with. None to see the whole image at once.
        overlap: share of a window that the next one covers as well, from 0 to below 1.
        base_size: length of the image's longer side at scale 1 (semseg: 512 for ADE20K and
            VOC, 2048 for Cityscapes); None for the image's own. "auto" is the size that the
            training run or the preset was trained with, if known, otherwise the image's own.
        batch_size: windows per batch. Changes speed and memory, not results.
        antialias: average pixels when an image is shrunk, as training does with `image_size`,
            instead of skipping some as semseg's test code does. "auto" averages for training runs
            with an `image_size`, and for presets made from them.

    Raises:
        ValueError: if a value is out of range.

    Example:
        paper = Protocol(scales=SIX_SCALES, flip=True, crop=473, base_size=512)
    """

    scales: Sequence[float] = (1.0,)
    flip: bool = False
    crop: int | None = None
    overlap: float = 1 / 3
    base_size: int | Literal["auto"] | None = "auto"
    batch_size: int = 4
    antialias: bool | Literal["auto"] = "auto"

    def __post_init__(self):
        scales = tuple(float(scale) for scale in np.atleast_1d(self.scales))
        if not scales or not all(0 < scale < 100 for scale in scales):
            raise ValueError(
                f"scales={self.scales!r}; give one or more factors above 0 and below 100."
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap={self.overlap!r}; it must be from 0 to below 1.")
        if isinstance(self.base_size, str) and self.base_size != "auto":
            raise ValueError(f'base_size={self.base_size!r}; give a number, None or "auto".')
        checked: dict[str, Any] = {
            "scales": scales,
            "flip": checked_flag("flip", self.flip),
            "overlap": float(self.overlap),
        }
        if self.antialias not in (True, False, "auto"):
            raise ValueError(f'antialias={self.antialias!r}; give True, False or "auto".')
        optional = {"crop": (None,), "base_size": (None, "auto"), "batch_size": ()}
        for name, others in optional.items():
            value = getattr(self, name)
            if value not in others:
                most = None if name == "batch_size" else LARGEST_SIDE
                checked[name] = checked_integer(name, value, least=1, most=most)
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the class is frozen

    def check_single_view(self) -> None:
        """Raises ValueError if the network would see several views, or another scale."""
        if self.scales != (1.0,) or self.flip or self.crop:
            raise ValueError(
                f"scales={self.scales}, flip={self.flip} and crop={self.crop} average the "
                "probabilities of several views of an image, which have no parts that add up to "
                "one logit; leave them out, and give base_size for another size of the image."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that change results, as plain data for JSON."""
        settings = {**dataclasses.asdict(self), "scales": list(self.scales)}
        del settings["batch_size"]
        return settings
