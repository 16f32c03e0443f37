"""Turns PSPNet's `backbone` argument into a layer, and determines its normalization."""

from typing import Any, get_args

import keras

from keras_psp.arguments import checked_choice, checked_number, checked_tuple
from keras_psp.imagenet import (
    BACKBONE_NAMES,
    BACKBONES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    has_keras_model,
)
from keras_psp.layers.backbone import (
    DilatedBackbone,
    backbone_normalization,
    normalization_of,
)
from keras_psp.layers.resnet import DilatedResNet, Remat
from keras_psp.models.bands import with_input_channels
from keras_psp.models.named_backbones import model_and_normalization


def backbone_layer(
    backbone: Any,
    policy: keras.DTypePolicy,
    remat: Remat | None = None,
    output_stride: int | None = None,
    input_channels: int = 3,
) -> DilatedResNet | DilatedBackbone:
    """Returns the `backbone` of `PSPNet` as a layer named "backbone", as optimizers expect.

    Raises ValueError if it is unknown, has weights but another name or precision, has another
    output stride or number of channels than requested, or isn't a `DilatedResNet` although
    `remat` requires one.
    """
    checked_choice("remat", remat, (None, *get_args(Remat)))
    checked_choice("output_stride", output_stride, (None, 8, 16, 32))
    layer = _named_layer(backbone, policy, output_stride or 8, input_channels)
    _check_channels(layer, input_channels)
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


def for_channels(
    model: keras.Model, normalization: dict[str, Any] | None, channels: int
) -> tuple[keras.Model, dict[str, Any] | None]:
    """Adapts a model for RGB images, and its normalization if known, to other channels."""
    if channels == 3 or getattr(model, "input_shape", (None,))[-1] != 3:
        return model, normalization
    known = normalization or backbone_normalization(model) or {}
    model = with_input_channels(model, channels, bgr=known.get("channel_order") == "bgr")
    return model, normalization and normalization_of(normalization, channels)


def _check_channels(layer, channels):
    if isinstance(layer, DilatedBackbone):
        own = layer.features.input_shape[-1]
    else:
        own = layer.stem[0].conv.kernel.shape[2] if layer.built else channels
    if own != channels:
        raise ValueError(
            f"input_channels={channels}, but the backbone given takes {own}; give the same number, "
            "or a backbone by name or as a keras.Model, which is adapted."
        )


def _named_layer(backbone, policy, output_stride, channels):
    options = {"output_stride": output_stride, "dtype": policy, "name": "backbone"}
    normalization = None
    if has_keras_model(backbone):
        backbone, normalization = model_and_normalization(backbone)
    elif isinstance(backbone, str) and backbone in BACKBONES:
        return DilatedResNet(int(backbone.removeprefix("resnet")), **options)
    if isinstance(backbone, keras.Model):
        backbone, normalization = for_channels(backbone, normalization, channels)
        return DilatedBackbone(backbone, normalization=normalization, **options)
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
    backbone: DilatedResNet | DilatedBackbone,
    mean: Any,
    std: Any,
    channel_order: Any,
    channels: int = 3,
) -> dict[str, Any]:
    """Returns arguments of `ImageNormalization`, with the backbone's own in place of "auto"."""
    defaults: dict[str, Any] = {"channel_order": "rgb"}
    if isinstance(backbone, DilatedBackbone):
        defaults = backbone.normalization or defaults
    else:
        defaults |= {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        defaults = normalization_of(defaults, channels)
    given = {"mean": mean, "std": std, "channel_order": channel_order}
    automatic = [key for key in given if isinstance(given[key], str) and given[key] == "auto"]
    if any(key not in defaults for key in automatic):
        raise ValueError(
            f"how {backbone.features.name} normalizes its images isn't known; pass mean=, std= "
            "(on the scale 0..255) and channel_order= as it was trained."
        )
    arguments = given | {key: defaults[key] for key in automatic}
    for name in ("mean", "std"):
        checked_tuple(name, arguments[name], checked_number, length=channels)
    return arguments
