"""Representative images, on which 8-bit exports measure the ranges of their activations."""

import itertools
import os
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np

from keras_psp.arguments import checked_choice
from keras_psp.data.bands import read_any
from keras_psp.export.graph import FOR_BYTES, Signature, takes_photos
from keras_psp.models.pspnet import PSPNet
from keras_psp.prediction.windows import resized

MAX_IMAGES = 100
"""Ranges are measured on at most this many images."""


def check_precision(
    model: Any,
    precision: str,
    precisions: Sequence[str],
    signature: Signature,
    representative: Iterable[Any] | None,
) -> None:
    """Checks, before any lengthy work, that "int8", the last precision, is possible."""
    checked_choice("precision", precision, precisions)
    other = precisions[-2]  # the closest one that needs no images
    if precision != "int8":
        if representative is not None:
            raise ValueError(
                f"representative= is for precision='int8' but this is {precision!r}; leave it out."
            )
        return
    if signature.image_size is None:
        raise ValueError(
            "precision='int8' with image_size=None would leave float operations in the file; give "
            f"image_size=(height, width), or use {other!r}."
        )
    if isinstance(model, PSPNet) and model.input_channels == 3 and not takes_photos(model):
        raise ValueError(
            "precision='int8' measures ranges on images of 0..255, and this network's mean and std "
            f"are those of images of 0..1; export {FOR_BYTES}."
        )
    if representative is None:
        raise ValueError(
            "precision='int8' measures ranges on images; give representative=, about 100 images "
            f"like those to come (arrays, paths or a Split), or use {other!r}."
        )


def representative_images(
    representative: Any, size: tuple[int, int] | None, channels: int = 3
) -> list[np.ndarray]:
    """Returns at most 100 of the images, resized to one size.

    Args:
        representative: arrays (height, width, channels), paths, or (image, mask) pairs, as a
            list, a `Split` of a data source or any other iterable. Of more than 100, the first 100
            are used, or 100 evenly spaced ones if it is a sequence.
        size: (height, width).
        channels: number of bands of the images.

    Returns:
        Arrays (height, width, channels), uint8, or float32 unless they are RGB.
    """
    assert size is not None  # see check_precision
    kind = type(representative).__name__
    if isinstance(representative, str | os.PathLike) or getattr(representative, "ndim", 4) != 4:
        raise ValueError(f"representative is one {kind}; give several images, e.g. a list.")
    if not isinstance(representative, Iterable):
        raise ValueError(
            f"representative is a {kind}; give its images, e.g. data.Split(source, 'train')."
        )
    count = len(representative) if isinstance(representative, Sized) else 0
    if hasattr(representative, "__getitem__") and count > MAX_IMAGES:
        chosen = np.linspace(0, count - 1, MAX_IMAGES).round()
        representative = map(representative.__getitem__, chosen.astype(int).tolist())
    images = []
    for index, item in enumerate(itertools.islice(representative, MAX_IMAGES)):
        image = item[0] if isinstance(item, tuple) else item
        try:
            image = read_any(np.asarray(image) if hasattr(image, "__array__") else image, channels)
        except (TypeError, ValueError) as error:
            raise ValueError(f"representative image {index}: {error}") from error
        image = resized(image.astype("float32"), size, antialias=True)
        images.append(np.rint(image).astype("uint8") if channels == 3 else image)
    if not images:
        raise ValueError(
            "representative contains no images; give about 100 like those to come, at least one."
        )
    return images


def calibration_batches(representative: Any, signature: Signature) -> list[np.ndarray]:
    """Returns `representative_images`, each repeated to a batch of the exported graph."""
    return [
        np.stack([image] * (signature.batch_size or 1)).astype(signature.input_dtype)
        for image in representative_images(representative, signature.image_size, signature.channels)
    ]
