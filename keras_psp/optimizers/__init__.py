"""Optimizers."""

from keras_psp.optimizers.sgd import SGD

__all__ = ["SGD"]
