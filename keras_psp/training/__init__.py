"""Training by recipes."""

from keras_psp.training.recipes import RECIPES, Recipe, recipe
from keras_psp.training.run import Run, train
from keras_psp.training.samples import augmented_samples, contact_sheet

__all__ = ["RECIPES", "Recipe", "Run", "augmented_samples", "contact_sheet", "recipe", "train"]
