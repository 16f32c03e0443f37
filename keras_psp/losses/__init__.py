"""Losses."""

from keras_psp.losses.class_weights import median_frequency_weights
from keras_psp.losses.crossentropy import UpsampledCrossentropy

__all__ = ["UpsampledCrossentropy", "median_frequency_weights"]
