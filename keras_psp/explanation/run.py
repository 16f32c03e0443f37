"""`keras_psp.explain`: the parts of the logits of one image."""

from typing import Any, Unpack

import numpy as np

from keras_psp.data.images import MAX_PIXELS
from keras_psp.explanation.reference import Reference, check_reference, read_still
from keras_psp.explanation.result import Explanation
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.models.parts import LogitParts
from keras_psp.prediction.inputs import find_inputs, is_single
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.outcomes import refusal
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.segmenter import Segmenter


def explain(
    image: Any,
    model: Any = None,
    *,
    reference: Reference = "image",
    max_pixels: int = MAX_PIXELS,
    **protocol: Unpack[ProtocolFields],
) -> Explanation:
    """Explains the classes of an image by splitting its logits into parts that add up to them.

    The network runs once. The convolution that fuses features and pyramid (paper, section 3.2 and
    figure 3) is a sum of one term for the features and one per level, its ReLU either passes or
    blocks a value, and the classifier is linear, so the parts are exact.

    Args:
        image: one image, see `keras_psp.predict`.
        model: see `keras_psp.predict`; None for the bundled network.
        reference: what `Explanation.context` puts in place of the pyramid's levels: "image" for
            their mean over all positions of this image, or the result of
            `keras_psp.explanation.level_means` for other images.
        max_pixels: larger images are refused.
        protocol: `base_size`, see `Protocol`. Several scales, flip and crop are refused, since
            the mean of several views' probabilities isn't a sum of such parts.

    Raises:
        ValueError, OSError: if an argument is invalid, the model can't be opened, or the image
            can't be read or is too small.

    Example:
        explanation = keras_psp.explain("harbor.jpg", "runs/mine")
        explanation.parts("boat", "car")  # why boat and not car: (parts, height, width)
        explanation.save("harbor_explanation.png", "boat", "car")
    """
    chosen = Protocol(**protocol)
    chosen.check_single_view()
    if not is_single(image):
        raise ValueError("image is a folder, a pattern or several images; give a single one.")
    (item,) = find_inputs(image)
    segmenter = open_segmenter(model, chosen)
    check_reference(reference, segmenter.model)
    pixels = read_still(item, max_pixels, segmenter.model.input_channels)
    try:
        return explained(segmenter, pixels, reference, name=item.stem, source=item.origin)
    except ValueError as error:
        raise refusal(item, error, segmenter.protocol.base_size) from None


def explained(
    segmenter: Segmenter,
    image: np.ndarray,
    reference: Reference,
    *,
    name: str = "photo",
    source: str = "",
) -> Explanation:
    """Explains an image, (height, width, channels), with an opened network."""
    model = segmenter.model
    view = segmenter.single_view(image)
    parts = LogitParts(model, view.pixels)
    return Explanation(
        image,
        view.classes(parts.logits),
        class_names_of(model),
        palette_of(model),
        tuple(model.bin_sizes),
        name,
        source,
        parts,
        view,
        reference,
    )
