"""Optimizers."""

from keras_psp.optimizers.adamw import AdamW
from keras_psp.optimizers.sgd import SGD

__all__ = ["SGD", "AdamW"]
