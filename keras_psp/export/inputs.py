"""Images brought to the type and batch size of an exported graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def as_input(
    images: Any,
    dtype: npt.DTypeLike,
    size: Sequence[int | None],
    smallest: int = 1,
) -> np.ndarray:
    """Checks images and casts them to the type of an exported graph.

    A graph would answer images of another size with wrong classes, or end the process.

    Args:
        images: (batch, height, width, 3), RGB 0..255, of any type; rounded for uint8.
        dtype: numpy type of the graph's input.
        size: (height, width) of the graph's input, None where it takes any.
        smallest: the shortest side in pixels, where the graph takes any.
    """
    images = np.asarray(images)
    shape, size = images.shape, tuple(size)
    if len(shape) != 4 or shape[-1] != 3 or shape[0] == 0:
        raise ValueError(
            f"images have shape {shape}; give RGB batches (batch, height, width, 3) of at "
            "least one image."
        )
    if None not in size and shape[1:3] != size:
        raise ValueError(
            f"images are {shape[1]}x{shape[2]} but this file was exported for "
            f"{size[0]}x{size[1]}; resize the images or export with "
            f"image_size=({shape[1]}, {shape[2]})."
        )
    if min(shape[1:3]) < smallest:
        raise ValueError(
            f"images are {shape[1]}x{shape[2]} but this network needs at least {smallest} pixels "
            "per side; enlarge them."
        )
    if np.dtype(dtype) == np.uint8 and images.dtype != np.uint8:
        images = np.clip(np.rint(images), 0, 255)
    return images.astype(dtype, copy=False)


def in_batches(images: np.ndarray, size: int | None) -> list[np.ndarray]:
    """Splits images into batches of a graph's fixed size; one batch if the size is None."""
    if size is None:
        return [images]
    if len(images) % size:
        raise ValueError(
            f"{len(images)} images but this file was exported for batches of {size}; give a "
            "multiple, or export with batch_size=None."
        )
    return np.split(images, len(images) // size)
