"""Backbones by name: models of keras.applications and keras-hub, and EfficientNet-Lite."""

from typing import Any

import keras

from keras_psp.imagenet import APPLICATIONS, EFFICIENTNET_LITE, HUB
from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.models.efficientnet_lite import efficientnet_lite
from keras_psp.models.hub import hub_backbone, hub_model_name


def named_model(name: str, weights: Any = None) -> keras.Model:
    """Builds a backbone of `APPLICATIONS` or `EFFICIENTNET_LITE` without its classifier.

    Args:
        weights: for keras.applications: None, "imagenet" or the path of a file of theirs.
    """
    if name in EFFICIENTNET_LITE:
        return efficientnet_lite(EFFICIENTNET_LITE.index(name))
    make = getattr(keras.applications, APPLICATIONS[name])
    return make(include_top=False, weights=weights)


def named_layer(backbone: str, weights: Any = None, **options: Any) -> DilatedBackbone:
    """Builds a backbone for which `imagenet.has_keras_model` is true.

    Args:
        backbone: its name.
        weights: see `named_model`; for keras-hub None or "imagenet", the preset's own.
        options: of the `DilatedBackbone`.
    """
    if backbone.startswith(HUB):
        model, normalization = hub_backbone(backbone, load_weights=weights is not None)
        return DilatedBackbone(model, normalization=normalization, **options)
    return DilatedBackbone(named_model(backbone, weights), **options)


def model_name(name: str) -> str:
    """The name of the model of a backbone for which `imagenet.has_keras_model` is true."""
    return hub_model_name(name) if name.startswith(HUB) else named_model(name).name
