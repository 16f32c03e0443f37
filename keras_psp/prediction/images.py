"""Photographs to classes: `keras_psp.predict`."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from keras_psp.data.images import MAX_PIXELS
from keras_psp.prediction.inputs import find_inputs, is_one
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.outcomes import outcomes
from keras_psp.prediction.protocol import Protocol
from keras_psp.prediction.result import Prediction


class Predictions(Iterator[Prediction]):
    """The predictions of several photographs, made as they are taken.

    Photographs that can't be read are left out, with a line each on stderr.

    Attributes:
        failures: (source, reason) of those left out so far.
    """

    def __init__(self, outcomes: Iterator):
        self.failures: list[tuple[str, str]] = []
        self._outcomes = outcomes

    def __next__(self) -> Prediction:
        for item, found in self._outcomes:
            if isinstance(found, Prediction):
                return found
            self.failures.append((item.origin, str(found)))
            print(f"left out {item.origin}: {found}", file=sys.stderr)
        raise StopIteration


def predict(
    photos: Any,
    model: Any = None,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop: int | None = None,
    overlap: float = 1 / 3,
    base_size: int | Literal["auto"] | None = "auto",
    batch_size: int = 4,
    probabilities: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Prediction | Predictions:
    """The class of every pixel of photographs.

        ade20k = "pspnet_r50-d8_512x512_160k_ade20k"
        keras_psp.predict("street.jpg", ade20k).save("results")
        for prediction in keras_psp.predict("holiday/", "runs/mine"):
            print(prediction.source, prediction.shares)

    Args:
        photos: a file, an address (http, https), bytes, a PIL image or an array, (height,
            width, 3) of 0 to 255: see `keras_psp.data.images.read_input_image`. Or several: a
            folder, with all below it, a pattern as "*.jpg", an array (n, height, width, 3),
            or an iterable of any of these.
        model: None for "pspnet_r18-d8_128x128_scenes", which comes with this package and
            knows the few classes of its generated scenes; a preset's name
            (`keras_psp.list_presets()`; "pspnet_r50-d8_512x512_160k_ade20k" is for
            photographs), a `PSPNet`, a `.keras` or other file that
            `keras_psp.weights.convert` knows, or the folder of a training. The last one
            opened by name is kept for the next call.
        scales, flip, crop, overlap, batch_size: see `Segmenter`.
        base_size: longer side of the photograph at scale 1, in pixels, None for its own; "auto"
            as in `keras_psp.evaluate`.
        probabilities: keep them as well; they take 4 bytes a class and pixel.
        max_pixels: larger photographs are refused.

    Returns:
        For one photograph a `Prediction`; for several an iterator of them, in order, which
        reads a few ahead and holds no more.

    Raises:
        ValueError, OSError: of one photograph that can't be read, or for a model that isn't
            there. Of several, those that can't be read are left out; see `Predictions`.
    """
    segmenter = open_segmenter(model, Protocol(scales, flip, crop, overlap, base_size, batch_size))
    found = outcomes(
        find_inputs(photos),
        segmenter,
        batch_size=batch_size,
        probabilities=probabilities,
        max_pixels=max_pixels,
    )
    if not is_one(photos):
        return Predictions(found)
    ((_, prediction),) = found
    if isinstance(prediction, Exception):
        raise prediction
    return prediction
