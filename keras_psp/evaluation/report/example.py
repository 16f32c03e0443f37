"""TODO."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


# Name, colour and plain words of each group of `ErrorGroups`.
_GROUPS = {
    "mismatched": (
        "Mismatched relationship",
        (224, 49, 49),
        "A class was predicted that this picture doesn't have and that hardly ever occurs "
        "together with what the picture does have: a car on a river. A network that sees the "
        "whole scene should not do this. Nothing is counted here unless the labelled pictures "
        "show that two classes keep apart, which takes many pictures of different scenes.",
    ),
    "confused": (
        "Confusion categories",
        (240, 140, 0),
        "Two classes that are taken for one another all over the data set, in both directions, "
        "away from their borders: part of a building called skyscraper.",
    ),
    "missed": (
        "Inconspicuous: small things missed",
        (156, 54, 181),
        "A small thing of which less than half was found, such as a street light.",
    ),
    "broken": (
        "Inconspicuous: large things broken up",
        (25, 113, 194),
        "A gap in a large thing that was found for the most part; things larger than what the "
        "network sees at once come out in pieces.",
    ),
    "border": (
        "Borders",
        (12, 166, 120),
        "The predicted class is right next to the pixel in the labels, so an edge runs a few "
        "pixels off. Not one of the paper's groups.",
    ),
    "other": (
        "Other",
        (164, 113, 72),
        "Everything else: one-sided confusions and things lost as a whole, for instance.",
    ),
}


@dataclass(frozen=True)
class Example:
    """A picture that a report may show.

    Attributes:
        name: of the picture.
        image: (height, width, 3), RGB 0 to 255.
        truth: (height, width) integers, class ids or the ignored class.
        prediction: (height, width) integers, class ids.
        mean_iou: of this picture alone; None to have it computed.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    mean_iou: float | None = None
