"""Training by recipes."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_psp.training.recipes import RECIPES, Recipe, recipe

if TYPE_CHECKING:
    from keras_psp.training.run import Run, train
    from keras_psp.training.samples import augmented_samples

_HOMES = {
    "Run": "keras_psp.training.run",
    "augmented_samples": "keras_psp.training.samples",
    "train": "keras_psp.training.run",
}

__all__ = ["RECIPES", "Recipe", "Run", "augmented_samples", "recipe", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
