"""Converts masks to the labels that losses and metrics read."""

from typing import Any

import keras
import numpy as np
from keras import ops

# Replaces a value that isn't a whole number; it is neither a class nor an ignored label.
NOT_A_LABEL = 2**30


def integer_labels(masks: Any, name: str = "y_true") -> Any:
    """Returns labels as int32, without a last axis of length 1.

    A value of a float mask that is not a whole number raises ValueError, or becomes
    `NOT_A_LABEL` while a graph is traced. `name` is what the error calls the masks.
    """
    labels = ops.convert_to_tensor(masks)
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(labels.dtype)):
        whole = labels == ops.floor(labels)  # not so for NaN
        known = known_values(whole)
        if known is not None and not known.all():
            value = ops.convert_to_numpy(labels)[~known].flat[0]
            raise ValueError(f"{name} has the value {value}; labels must be whole numbers.")
        labels = ops.where(whole, labels, ops.cast(NOT_A_LABEL, labels.dtype))
    return ops.cast(labels, "int32")


def known_values(tensor: Any) -> np.ndarray | None:
    """The values of a tensor or variable, or None while a graph is traced."""
    try:
        return ops.convert_to_numpy(tensor)
    except (TypeError, ValueError, NotImplementedError, RuntimeError):
        return None
