"""Losses."""

from keras_psp.losses.class_weights import median_frequency_weights
from keras_psp.losses.crossentropy import UpsampledCrossentropy
from keras_psp.losses.focal import UpsampledFocalCrossentropy
from keras_psp.losses.lovasz import UpsampledLovasz
from keras_psp.losses.regions import UpsampledDice, UpsampledTversky
from keras_psp.losses.sums import UpsampledSum, get

__all__ = [
    "UpsampledCrossentropy",
    "UpsampledDice",
    "UpsampledFocalCrossentropy",
    "UpsampledLovasz",
    "UpsampledSum",
    "UpsampledTversky",
    "get",
    "median_frequency_weights",
]
