"""One labeled image with its prediction, for the report."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Example:
    """An image that a report may show.

    Attributes:
        name: of the image.
        image: (height, width, 3), RGB 0 to 255.
        truth: (height, width) integers, class indices or the ignored class.
        prediction: (height, width) integers, class indices.
        mean_iou: of this image alone; None to have it computed.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    mean_iou: float | None = None
