"""TODO."""

from collections.abc import Iterable, Iterator

import numpy as np

from keras_psp.data.images import read_input_image
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.prediction.inputs import Input
from keras_psp.prediction.result import Prediction
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.progress import ahead

_PIXELS = 2**24  # of the photographs that go to the network together


_DECODERS = 4  # threads; twice as many photographs wait at most


def outcomes(
    inputs: Iterable[Input],
    segmenter: Segmenter,
    *,
    batch_size: int,
    probabilities: bool,
    max_pixels: int,
) -> Iterator[tuple[Input, Prediction | Exception]]:
    """Each input with its prediction, or with the error that says why there is none.

    The next photographs are decoded in threads while the network works.
    """

    def read(item):
        try:
            if item.is_video:
                raise ValueError(
                    f"{item.origin}: is a video; give it to keras_psp.prediction.predict_files or "
                    "`keras-psp predict`."
                )
            return item, read_input_image(item.source, max_pixels=max_pixels)
        except (ValueError, OSError, TypeError) as error:
            return item, error
        except MemoryError:
            return item, ValueError(f"{item.origin}: is too large for the memory; make it smaller.")

    names, palette = class_names_of(segmenter.model), palette_of(segmenter.model)
    # Probabilities come photograph by photograph, and are too large to be kept waiting.
    batch_size = 1 if probabilities else batch_size
    for group in _grouped(ahead(read, inputs, threads=_DECODERS), batch_size):
        photos = [photo for _, photo in group if not isinstance(photo, Exception)]
        found = iter(_segmented(segmenter, photos, probabilities))
        for item, photo in group:
            if isinstance(photo, Exception):
                yield item, photo
                continue
            result = next(found)
            if isinstance(result, Exception):
                reason = str(result).split("\n")[0]
                base_size = segmenter.protocol.base_size
                if base_size:
                    remedy = f"base_size is {base_size}, a larger one may help."
                    reason = f"{reason.rstrip('.')}; {remedy}"
                yield item, ValueError(f"{item.origin}: the network can't take it: {reason}")
                continue
            classes, chances = result
            yield (
                item,
                Prediction(photo, classes, names, palette, item.stem, item.origin, chances),
            )


def _grouped(pairs, batch_size):
    """Lists of as many as the network takes at a time."""
    group, pixels = [], 0
    for item, photo in pairs:
        group.append((item, photo))
        pixels += photo.size // 3 if isinstance(photo, np.ndarray) else 0
        if len(group) >= batch_size or pixels >= _PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _segmented(segmenter, photos, probabilities):
    """For each photograph (classes, probabilities or None), or an exception."""
    if not photos:
        return []
    try:
        if not probabilities:
            return [(classes, None) for classes in segmenter.classes(photos)]
        (photo,) = photos
        chances = segmenter.probabilities(photo)
        kind = np.uint8 if chances.shape[-1] <= 256 else np.uint16
        return [(chances.argmax(axis=-1).astype(kind), chances)]
    except Exception as error:
        if not out_of_memory(error) and not isinstance(error, ValueError):
            raise
        if len(photos) == 1:
            if not isinstance(error, ValueError):
                return [
                    ValueError("it needs more memory than there is; give crop=, or base_size=.")
                ]
            return [error]
    # One of them is at fault: each on its own.
    return [result for photo in photos for result in _segmented(segmenter, [photo], probabilities)]


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that something needs more memory than there is."""
    # TensorFlow has an error of its own for that.
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
