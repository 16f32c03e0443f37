"""Backbones by name, without weights: models of keras.applications and EfficientNet-Lite."""

from typing import Any

import keras

from keras_psp.imagenet import APPLICATIONS, EFFICIENTNET_LITE
from keras_psp.models.efficientnet_lite import efficientnet_lite


def named_model(name: str, weights: Any = None) -> keras.Model:
    """Builds a backbone of `APPLICATIONS` or `EFFICIENTNET_LITE` without its classifier.

    Args:
        weights: for keras.applications: None, "imagenet" or the path of a file of theirs.
    """
    if name in EFFICIENTNET_LITE:
        return efficientnet_lite(EFFICIENTNET_LITE.index(name))
    make = getattr(keras.applications, APPLICATIONS[name])
    return make(include_top=False, weights=weights)
