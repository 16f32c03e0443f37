from .facts import run_facts
from .recipes import RECIPES, Recipe, recipe
from .run import Run, train
from .samples import augmented_samples, contact_sheet

__all__ = [
    "RECIPES",
    "Recipe",
    "Run",
    "augmented_samples",
    "contact_sheet",
    "recipe",
    "run_facts",
    "train",
]
