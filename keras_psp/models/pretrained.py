"""`PSPNet(weights=...)`: trained weights, and the arguments that come with them."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

from keras_psp.models.checks import check_weights


class PresetName(str):
    """The name, folder or address of a preset, never that of a file."""


def save_to_preset(model: Any, folder: str | os.PathLike, **options: Any) -> None:
    """Writes the folder of a preset; see `PSPNet.save_to_preset`."""
    from keras_psp.weights import saving

    saving.save_to_preset(model, folder, **options)


def with_weights(init: Callable[..., None]) -> Callable[..., None]:
    """Makes an `__init__` take missing arguments from its `weights`, and load them."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def initialize(self, *args, weights=None, **kwargs):
        if weights is None:
            init(self, *args, **kwargs)
            return
        # Imports upward in the core only happen when weights are asked for.
        from keras_psp.weights.opening import open_weights

        given = dict(signature.bind(self, *args, **kwargs).arguments)
        given.pop("self")
        source = open_weights(weights, given)
        init(self, **source.arguments)
        source.load(self)
        check_weights(self, f"weights={str(weights)!r}")

    # Keras reads the arguments of a model's __init__ without looking into wrappers.
    initialize.__signature__ = signature  # type: ignore[attr-defined]
    return initialize
