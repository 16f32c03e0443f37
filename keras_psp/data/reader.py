"""Reads single examples of a split in any order, resizes them and keeps them in memory."""

import functools
import math
import threading
from collections.abc import Callable
from typing import Any, Literal

from keras_psp.data.memory import free_memory


def reader(
    source: Any,
    split: str,
    *,
    image_size: tuple[int, int] | None,
    cache: bool | Literal["auto"],
) -> Callable[[int], tuple[Any, Any]]:
    """Returns a function from an index to a resized (image, mask) with the files' dtypes."""
    import tensorflow as tf

    if hasattr(source, "example"):
        decoded: Callable[[int], Any] = functools.partial(source.example, split)
    elif cache:
        everything: list = []
        lock = threading.Lock()

        def decoded(index):
            with lock:
                if not everything:
                    everything.extend(source.examples(split))
            return everything[index]

    else:
        raise ValueError(
            f"cache is False, but {type(source).__name__} has no example(split, index) "
            "to read single examples with; use cache=True."
        )

    def resized(index):
        with tf.device("CPU"):  # eager code would put the examples on a GPU
            image, mask = (tf.convert_to_tensor(part) for part in decoded(index))
            if image_size is not None:
                dtype = image.dtype
                image = tf.image.resize(image, image_size, antialias=True)
                if dtype.is_integer:  # averages are within its range but for rounding
                    image = tf.clip_by_value(tf.round(image), dtype.min, dtype.max)
                image = tf.cast(image, dtype)
                mask = tf.image.resize(mask[..., None], image_size, method="nearest")
                mask = mask[..., 0]
        return image, mask

    if not cache:
        return resized
    kept: dict = {}
    room = free_memory() // 4 if cache == "auto" else float("inf")
    counting = threading.Lock()

    def remembered(index):
        nonlocal room
        if index in kept:
            return kept[index]
        example = resized(index)
        with counting:
            size = sum(math.prod(part.shape) * part.dtype.size for part in example)
            if index not in kept and size <= room:
                kept[index] = example
                room -= size
        return example

    return remembered
