"""Backbones by name: models of keras.applications and keras-hub, and EfficientNet-Lite."""

from typing import Any

import keras

from keras_psp.imagenet import APPLICATIONS, EFFICIENTNET_LITE, HUB
from keras_psp.models.efficientnet_lite import efficientnet_lite
from keras_psp.models.hub import hub_backbone, hub_model_name


def named_model(name: str, weights: Any = None) -> keras.Model:
    """Builds a backbone of `APPLICATIONS` or `EFFICIENTNET_LITE` without its classifier.

    Args:
        weights: for keras.applications only: None or "imagenet".
    """
    if name in EFFICIENTNET_LITE:
        return efficientnet_lite(EFFICIENTNET_LITE.index(name))
    make = getattr(keras.applications, APPLICATIONS[name])
    return make(include_top=False, weights=weights)


def model_and_normalization(
    backbone: str, weights: Any = None
) -> tuple[keras.Model, dict[str, Any] | None]:
    """Builds a backbone for which `imagenet.has_keras_model` is true.

    Args:
        backbone: its name.
        weights: see `named_model`; for keras-hub None or "imagenet", the preset's own.

    Returns:
        The model, and the arguments of the `ImageNormalization` before it; None if
        `backbone_normalization` finds them by the model's name, or if they are unknown.
    """
    if backbone.startswith(HUB):
        return hub_backbone(backbone, load_weights=weights is not None)
    return named_model(backbone, weights), None


def model_name(name: str) -> str:
    """The name of the model of a backbone for which `imagenet.has_keras_model` is true."""
    return hub_model_name(name) if name.startswith(HUB) else named_model(name).name
