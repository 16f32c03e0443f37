"""How sure a prediction is at every pixel."""

import dataclasses
import math
from typing import Any

import numpy as np
from keras import ops
from PIL import Image

from keras_psp.visual.bands import viewable
from keras_psp.visual.legend import Entry
from keras_psp.visual.overlays import image_table

_TINY = 1e-37  # a normal float32, so that every logarithm is finite
_STEPS = 65535  # values of 16 bits
_SIDE = 800  # pixels of the longer side of a map in the picture
_COLORS = "viridis"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Confidence:
    """How sure a prediction is at every pixel, in maps from 0 to 1.

    They are computed from the probabilities that the classes are chosen by: averaged over scales,
    windows and mirror images, at the network's `temperature`, see
    `keras_psp.evaluation.calibrate`.

    Attributes:
        probability: (height, width) float32, probability of the predicted class.
        margin: (height, width) float32, difference between it and that of the second best class.
        entropy: (height, width) float32, -sum(p log p) / log(num_classes): 0 where one class is
            certain, 1 where all are equally probable.
        disagreement: (height, width) float32, share of the views (each scale, and each scale's
            mirror image) whose own class isn't the predicted one; None for a single view.

    Example:
        prediction = keras_psp.predict("street.jpg", model, flip=True, confidence=True)
        doubtful = prediction.confidence.margin < 0.2
    """

    probability: np.ndarray
    margin: np.ndarray
    entropy: np.ndarray
    disagreement: np.ndarray | None = None

    def maps(self) -> dict[str, np.ndarray]:
        """The maps by name, without those that are None."""
        names = map_names(1 if self.disagreement is None else 2)
        return {name: getattr(self, name) for name in names}

    def picture(self, image: np.ndarray) -> Image.Image:
        """Draws the image and its maps side by side, above a legend of their colors.

        Args:
            image: (height, width, channels), the predicted image, see `viewable`.

        Returns:
            RGB; image and maps are reduced to at most 800 pixels on the longer side.
        """
        from matplotlib import colormaps

        colors, maps = colormaps[_COLORS], self.maps()
        row = [Image.fromarray(viewable(image))]
        row += [Image.fromarray(colors(values, bytes=True)[..., :3]) for values in maps.values()]
        for panel in row:
            panel.thumbnail((_SIDE, _SIDE))
        shown = [step / 5 for step in range(6)]
        entries: list[Entry] = [
            (f"{100 * value:.0f} %", tuple(map(int, colors(value, bytes=True)[:3])))
            for value in shown
        ]
        return image_table([row], ["image", *maps], entries)

    def images(self) -> dict[str, Image.Image]:
        """The maps by name as 16-bit grayscale images, in which 65535 is 1."""
        return {
            name: Image.fromarray(np.rint(values * _STEPS).astype(np.uint16))
            for name, values in self.maps().items()
        }


def map_names(views: int) -> tuple[str, ...]:
    """Names of the maps of a `Confidence`; a single view has no disagreement."""
    return ("probability", "margin", "entropy", *(["disagreement"] if views > 1 else []))


def with_temperature(scores: Any, *, logits: bool, temperature: float) -> Any:
    """Probabilities (..., classes) of logits, or of averaged probabilities, at a temperature.

    Averaged probabilities are changed as a whole, not view by view: their logarithms are divided
    by the temperature, so that their order, and thus the class, stays the same. For the logits of
    a single view, both computations are equivalent.
    """
    if logits:
        return ops.softmax(scores / temperature, axis=-1)
    if temperature == 1:
        return scores
    return ops.softmax(ops.log(ops.maximum(scores, _TINY)) / temperature, axis=-1)


def best_classes(scores: Any) -> Any:
    """The class of the highest score, int32."""
    return ops.cast(ops.argmax(scores, axis=-1), "int32")


def best_and_confidence(scores: Any, *, logits: bool, temperature: float) -> tuple[Any, Any]:
    """Best classes (rows, width) and, (3, rows, width), probability, margin and entropy."""
    best = best_classes(scores)
    probabilities = with_temperature(scores, logits=logits, temperature=temperature)
    classes = scores.shape[-1]
    first = ops.max(probabilities, axis=-1)
    others = ops.arange(classes, dtype="int32") != best[..., None]
    second = ops.max(ops.where(others, probabilities, 0.0), axis=-1)
    logarithms = ops.log(ops.maximum(probabilities, _TINY))
    entropy = -ops.sum(probabilities * logarithms, axis=-1) / math.log(classes)
    return best, ops.clip(ops.stack([first, first - second, entropy]), 0.0, 1.0)


def log_probabilities(scores: np.ndarray, *, logits: bool) -> np.ndarray:
    """Log probabilities at temperature 1, (n, classes) float32."""
    if not logits:
        return np.log(np.maximum(scores, np.float32(_TINY)))
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
