"""Whole trainings: recipes, and the one call that carries one out."""

import importlib
from typing import TYPE_CHECKING

from keras_psp.training.recipes import RECIPES, Recipe, recipe

if TYPE_CHECKING:
    from keras_psp.training.run import Run, train

__all__ = ["RECIPES", "Recipe", "Run", "recipe", "train"]


def __getattr__(name: str):
    if name not in ("Run", "train"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("keras_psp.training.run"), name)
