"""Predicts a stream of inputs, with an error in place of each prediction that fails."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from keras_psp.data.bands import read_any
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.prediction.inputs import Input
from keras_psp.prediction.result import Prediction
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.progress import ahead

Outcome: TypeAlias = tuple[Input, Prediction | Exception]

_MAX_PIXELS = 2**24  # of the images in one batch
_DECODERS = 4  # threads; at most twice as many decoded images wait


def predict_inputs(
    inputs: Iterable[Input],
    segmenter: Segmenter,
    *,
    probabilities: bool,
    max_pixels: int,
    confidence: bool = False,
) -> Iterator[Outcome]:
    """Yields each input with its prediction, or with the error that explains why it failed.

    The next images are decoded in threads while the network runs.
    """

    def read(item):
        try:
            if item.is_video:
                raise ValueError(
                    f"{item.origin}: is a video; use keras_psp.prediction.predict_files or "
                    "`keras-psp predict`."
                )
            return item, read_any(item.source, channels, max_pixels=max_pixels)
        except (ValueError, OSError, TypeError) as error:
            return item, error
        except MemoryError:
            return item, ValueError(f"{item.origin}: doesn't fit into memory; make it smaller.")

    channels = segmenter.model.input_channels
    names, palette = class_names_of(segmenter.model), palette_of(segmenter.model)
    # Probabilities are computed one image at a time, and are too large to be collected.
    batch_size = 1 if probabilities else segmenter.protocol.batch_size
    for group in grouped(ahead(read, inputs, threads=_DECODERS), batch_size):
        images = [image for _, image in group if not isinstance(image, Exception)]
        results = iter(_segment(segmenter, images, probabilities, confidence))
        for item, image in group:
            result = image if isinstance(image, Exception) else next(results)
            if isinstance(result, tuple):
                classes, *rest = result
                result = Prediction(image, classes, names, palette, item.stem, item.origin, *rest)
            elif result is not image:
                result = refusal(item, result, segmenter.protocol.base_size)
            yield item, result


def grouped(pairs: Iterable[tuple[Any, Any]], batch_size: int) -> Iterator[list[tuple[Any, Any]]]:
    """Yields lists of (anything, image or error), as many as the network takes at a time."""
    group, pixels = [], 0
    for item, image in pairs:
        group.append((item, image))
        pixels += image[..., 0].size if isinstance(image, np.ndarray) else 0
        if len(group) >= batch_size or pixels >= _MAX_PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _segment(segmenter, images, probabilities, confidence):
    """Returns for each image what `Segmenter.outputs` yields, or an exception."""
    if not images:
        return []
    try:
        if not probabilities and not confidence:
            return [(classes, None, None) for classes in segmenter.classes(images)]
        outputs = segmenter.outputs(images, probabilities=probabilities, confidence=confidence)
        return list(outputs)
    except Exception as error:
        if not isinstance(error, ValueError) and not is_out_of_memory(error):
            raise
        if len(images) == 1:
            out_of_memory = ValueError("not enough memory; set crop= or base_size=.")
            return [error if isinstance(error, ValueError) else out_of_memory]
    # One of them causes the error: run each alone.
    options = probabilities, confidence
    return [result for image in images for result in _segment(segmenter, [image], *options)]


def refusal(item: Input, error: Exception, base_size: Any) -> ValueError:
    """An error that names the input that the network can't process, with the reason."""
    reason = str(error).split("\n")[0]
    if base_size and "at least" in reason:  # pixels
        reason = f"{reason.rstrip('.')}; base_size is {base_size}, a larger one may help."
    return ValueError(f"{item.origin}: the network can't process it: {reason}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there is not enough memory."""
    # TensorFlow raises its own type of error.
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
