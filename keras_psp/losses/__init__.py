"""Losses."""

from keras_psp.losses.crossentropy import UpsampledCrossentropy

__all__ = ["UpsampledCrossentropy"]
