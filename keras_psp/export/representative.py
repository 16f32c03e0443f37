"""Images like those to come, on which 8-bit exports measure their ranges."""

import itertools
import os
from collections.abc import Iterable, Sized
from typing import Any

import numpy as np

from keras_psp.data.images import read_input_image
from keras_psp.export.graph import Signature
from keras_psp.prediction.windows import resized

MOST = 100
"""Ranges are measured on so many images at most."""


def check_representative(
    precision: str, signature: Signature, representative: Iterable[Any] | None, other: str
) -> None:
    """Refuse what makes no sense before anything long begins.

    Args:
        precision: "int8" needs images and a size, others take no images.
        signature: of the export.
        representative: what the caller gave.
        other: the nearest precision that needs no images, for the error.
    """
    if precision != "int8":
        if representative is not None:
            raise ValueError(
                f"representative images are for precision='int8' and this is {precision!r}; "
                "leave them out."
            )
        return
    if signature.image_size is None:
        raise ValueError(
            "precision='int8' with image_size=None would leave float operations in the file; give "
            f"image_size=(height, width), or take {other!r}."
        )
    if representative is None:
        raise ValueError(
            "precision='int8' measures ranges on images; give representative=, some 100 images "
            f"like those to come (arrays, paths or a Split), or take {other!r}."
        )


def representative_images(representative: Any, size: tuple[int, int] | None) -> list[np.ndarray]:
    """At most 100 of the images, evenly spread where they have a length, at one size.

    Args:
        representative: arrays (height, width, 3), paths, or (image, mask) pairs: a list, a
            `Split` of a data source, ...
        size: (height, width) they are resized to.

    Returns:
        (height, width, 3) uint8 each.
    """
    assert size is not None  # see check_representative
    kind = type(representative).__name__
    if isinstance(representative, str | os.PathLike) or getattr(representative, "ndim", 4) != 4:
        raise ValueError(f"representative is one {kind}; give several images, as a list.")
    if not isinstance(representative, Iterable):
        raise ValueError(
            f"representative is a {kind}; give its images, as data.Split(source, 'train')."
        )
    count = len(representative) if isinstance(representative, Sized) else 0
    if hasattr(representative, "__getitem__") and count > MOST:
        chosen = np.linspace(0, count - 1, MOST).round()
        representative = map(representative.__getitem__, chosen.astype(int).tolist())
    images = []
    for index, item in enumerate(itertools.islice(representative, MOST)):
        image = item[0] if isinstance(item, tuple) else item
        try:
            image = read_input_image(np.asarray(image) if hasattr(image, "__array__") else image)
        except (TypeError, ValueError) as error:
            raise ValueError(f"representative image {index}: {error}") from error
        image = np.rint(resized(image.astype("float32"), size))
        images.append(image.astype("uint8"))
    if not images:
        raise ValueError(
            "representative holds no image; give some 100 like those to come, at least one."
        )
    return images


def calibration_batches(representative: Any, signature: Signature) -> list[np.ndarray]:
    """`representative_images` as the exported graph takes them, each filling a batch."""
    return [
        np.stack([image] * (signature.batch_size or 1)).astype(signature.input_dtype)
        for image in representative_images(representative, signature.image_size)
    ]
