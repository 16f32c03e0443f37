"""Converts images to the type and batch size of an exported graph."""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_psp.arguments import checked_integer


def graph_function(
    run: Callable[[np.ndarray], np.ndarray],
    shape: Sequence[int | None],
    dtype: npt.DTypeLike,
    smallest: int = 1,
    *,
    one_at_a_time: bool = False,
) -> Callable[[Any], np.ndarray]:
    """Returns a function that checks images, casts them and runs an exported graph on each batch.

    Given images of another size, a graph would return wrong classes or crash the process. `dtype`
    and `shape`, (batch, height, width, channels), are those of its input, with None for any number;
    sides have at least `smallest` pixels. `one_at_a_time` makes threads take turns, because `run`
    has memory for one call only.
    """
    turn = threading.Lock() if one_at_a_time else contextlib.nullcontext()
    batch_size, *size, channels = shape

    def predict(images: Any) -> np.ndarray:
        images = np.asarray(images)
        _check_shape(images.shape, tuple(size), smallest, channels)
        bands = channels != 3 and np.dtype(dtype) == np.uint8
        if bands and (images.min(initial=0) < 0 or images.max(initial=0) > 255):
            raise ValueError(
                f"images are between {images.min():g} and {images.max():g} but this file takes "
                "bands of uint8; export it with input_dtype='float32'."
            )
        if np.dtype(dtype) == np.uint8 and images.dtype != np.uint8:
            images = np.clip(np.rint(images), 0, 255)
        images = images.astype(dtype, copy=False)
        count = len(images) if batch_size is None else batch_size
        if len(images) % count:
            raise ValueError(
                f"{len(images)} images but this file was exported for batches of {count}; give a "
                "multiple, or export with batch_size=None."
            )
        with turn:
            return np.concatenate([run(part) for part in np.split(images, len(images) // count)])

    return predict


def thread_count(num_threads: int | None) -> int:
    """Returns the number of threads to compute on; None is one per core."""
    if num_threads is None:
        return os.cpu_count() or 1
    return checked_integer("num_threads", num_threads, least=1)


def _check_shape(shape, size, smallest, channels):
    if len(shape) != 4 or shape[-1] != channels or shape[0] == 0:
        kind = "RGB batches" if channels == 3 else "batches"
        raise ValueError(
            f"images have shape {shape}; give {kind} (batch, height, width, {channels}) of at "
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
