"""From PSPNet's `backbone` argument to a layer, and how its images are normalized."""

from typing import Any, get_args

import keras

from keras_psp.arguments import checked_choice
from keras_psp.imagenet import (
    BACKBONE_NAMES,
    BACKBONES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    has_keras_model,
)
from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.layers.resnet import DilatedResNet, Remat
from keras_psp.models.named_backbones import named_layer


def backbone_layer(
    backbone: Any,
    policy: keras.DTypePolicy,
    remat: Remat | None = None,
    output_stride: int | None = None,
) -> DilatedResNet | DilatedBackbone:
    """The `backbone` of `PSPNet` as a layer named "backbone", the name optimizers know it by.

    Raises ValueError if it is unknown, has weights under another name or precision, has another
    output stride than asked for, or isn't a `DilatedResNet` and `remat` isn't None or "none".
    """
    checked_choice("remat", remat, (None, *get_args(Remat)))
    checked_choice("output_stride", output_stride, (None, 8, 16, 32))
    layer = _named_layer(backbone, policy, output_stride or 8)
    if output_stride not in (None, layer.output_stride):
        raise ValueError(
            f"output_stride={output_stride}, but the backbone given has {layer.output_stride}; "
            "omit it, or make the backbone with this one."
        )
    if isinstance(layer, DilatedResNet):
        layer.remat = remat or layer.remat
    elif remat not in (None, "none"):
        raise ValueError(f"remat={remat!r} needs a DilatedResNet as backbone; omit it.")
    return layer


def _named_layer(backbone, policy, output_stride):
    options = {"output_stride": output_stride, "dtype": policy, "name": "backbone"}
    if has_keras_model(backbone):
        return named_layer(backbone, **options)
    if isinstance(backbone, str) and backbone in BACKBONES:
        return DilatedResNet(int(backbone.removeprefix("resnet")), **options)
    if isinstance(backbone, keras.Model):
        return DilatedBackbone(backbone, **options)
    if not isinstance(backbone, DilatedResNet | DilatedBackbone):
        raise ValueError(
            f"backbone={backbone!r} is unknown; choose one of {BACKBONE_NAMES}, or pass a "
            "keras_psp.DilatedResNet, a keras_psp.DilatedBackbone or a functional keras.Model."
        )
    if backbone.name == "backbone" and backbone.dtype_policy.name == policy.name:
        return backbone
    config = {**backbone.get_config(), "name": "backbone", "dtype": policy.name}
    if isinstance(backbone, DilatedBackbone):
        return DilatedBackbone(**{**config, "model": backbone.features})  # keeps its weights
    if backbone.built:
        raise ValueError(
            f"the backbone with weights is named {backbone.name!r} and computes in "
            f"{backbone.dtype_policy.name}; make it with name='backbone' and "
            f"dtype={policy.name!r}."
        )
    return type(backbone).from_config(config)


def normalization_arguments(
    backbone: DilatedResNet | DilatedBackbone, mean: Any, std: Any, channel_order: Any
) -> dict[str, Any]:
    """Arguments of `ImageNormalization`; those given as "auto" are the backbone's own."""
    defaults: dict[str, Any] = {"channel_order": "rgb"}
    if isinstance(backbone, DilatedBackbone):
        defaults = backbone.normalization or defaults
    else:
        defaults |= {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    given = {"mean": mean, "std": std, "channel_order": channel_order}
    automatic = [key for key in given if isinstance(given[key], str) and given[key] == "auto"]
    if any(key not in defaults for key in automatic):
        raise ValueError(
            f"how {backbone.features.name} normalizes its images isn't known; pass mean=, std= "
            "(on the scale 0..255) and channel_order= as it was trained."
        )
    return given | {key: defaults[key] for key in automatic}
