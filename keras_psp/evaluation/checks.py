"""Input checks shared by the measures that count pixels of masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def checked_masks(**masks: ArrayLike) -> list[np.ndarray]:
    """The masks as arrays; a ValueError if they aren't (height, width) integers of one shape."""
    arrays = {name: np.asarray(mask) for name, mask in masks.items()}
    first, *_ = arrays
    for name, mask in arrays.items():
        if mask.ndim != 2 or not mask.size or not np.issubdtype(mask.dtype, np.integer):
            raise ValueError(
                f"{name} has shape {mask.shape} and dtype {mask.dtype}; it must be "
                "(height, width) integers. For scores, take the argmax first."
            )
        if mask.shape != arrays[first].shape:
            raise ValueError(
                f"{name} has shape {mask.shape} and {first} {arrays[first].shape}; both must "
                "have the image's size."
            )
    return list(arrays.values())


def check_same_arguments(left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Raises a ValueError if two counts were made with different arguments."""
    for name, value in left.items():
        if right[name] != value:
            raise ValueError(
                f"{name} is {value} on one side of + and {right[name]} on the other; add only "
                "results with the same arguments."
            )
