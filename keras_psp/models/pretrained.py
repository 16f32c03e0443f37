"""`PSPNet(weights=...)`: trained weights, and the arguments that come with them."""

import functools
import inspect
from collections.abc import Callable

from keras_psp.models.checks import check_weights


class PresetName(str):
    """The name of a preset, never that of a file."""


def with_weights(init: Callable[..., None]) -> Callable[..., None]:
    """Lets the `weights` argument of an `__init__` fill in what isn't given, and loads them."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def initialize(self, *args, weights=None, **kwargs):
        if weights is None:
            init(self, *args, **kwargs)
            return
        # The one import upward in the core: it only happens when weights are asked for.
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
