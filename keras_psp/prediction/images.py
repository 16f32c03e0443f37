"""`keras_psp.predict`: the classes of one or several images."""

import sys
from collections.abc import Iterator
from typing import Any, Unpack

from keras_psp.data.images import MAX_PIXELS
from keras_psp.prediction.inputs import find_inputs, is_single
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.outcomes import Outcome, predict_inputs
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.result import Prediction


class Predictions(Iterator[Prediction]):
    """Predictions of several images, computed as they are consumed.

    Images that can't be read are skipped; each is reported on one line on stderr.

    Attributes:
        failures: (source, reason) of the images skipped so far.

    Example:
        predictions = keras_psp.predict("holiday/")
        for prediction in predictions:
            print(prediction.source, prediction.shares)
        print(len(predictions.failures), "could not be read")
    """

    def __init__(self, outcomes: Iterator[Outcome]):
        self.failures: list[tuple[str, str]] = []
        self._outcomes = outcomes

    def __next__(self) -> Prediction:
        for item, outcome in self._outcomes:
            if isinstance(outcome, Prediction):
                return outcome
            self.failures.append((item.origin, str(outcome)))
            print(f"skipped {item.origin}: {outcome}", file=sys.stderr)
        raise StopIteration


def predict(
    images: Any,
    model: Any = None,
    *,
    probabilities: bool = False,
    confidence: bool = False,
    max_pixels: int = MAX_PIXELS,
    **protocol: Unpack[ProtocolFields],
) -> Prediction | Predictions:
    """Predicts the class of every pixel of one or several images.

    Args:
        images: one image: a file, an address (http, https), bytes, a PIL image, or an array,
            (height, width, channels), e.g. RGB 0 to 255. It is read by
            `keras_psp.data.images.read_image`, or by `keras_psp.data.bands.read_bands` if the
            network doesn't take three channels. Several images: a folder (searched with its
            subfolders), a pattern such as "*.jpg", an array, (n, height, width, channels), or an
            iterable of any of these.
        model: the name of a preset (see `keras_psp.list_presets()`, e.g.
            "pspnet_r50-d8_512x512_160k_ade20k" for everyday scenes), a `PSPNet`, a `.keras` file
            or another file that `keras_psp.weights.convert` reads, or the folder of a training
            run. A model opened by name is cached for the next call. None for
            "pspnet_r18-d8_128x128_scenes", which is bundled with this package and knows only
            the few classes of its generated scenes.
        probabilities: also keep the probabilities, which take 4 bytes per class and pixel.
        confidence: also compute how sure each pixel's class is, see
            `keras_psp.prediction.Confidence`.
        max_pixels: larger images are refused.
        protocol: fields of `Protocol`: scales, flip, crop, overlap, base_size, antialias,
            batch_size.

    Returns:
        For one image a `Prediction`; for several an iterator of them, in order, which reads
        only a few images ahead.

    Raises:
        ValueError, OSError: if the model can't be opened, or a single image can't be read. If
            there are several images, those that can't be read are skipped; see `Predictions`.

    Example:
        ade20k = "pspnet_r50-d8_512x512_160k_ade20k"
        keras_psp.predict("street.jpg", ade20k).save("results")
        for prediction in keras_psp.predict("holiday/", "runs/mine"):
            print(prediction.source, prediction.shares)
    """
    outcomes = predict_inputs(
        find_inputs(images),
        open_segmenter(model, Protocol(**protocol)),
        probabilities=probabilities,
        confidence=confidence,
        max_pixels=max_pixels,
    )
    if not is_single(images):
        return Predictions(outcomes)
    ((_, outcome),) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
