"""Backbones from keras-hub's presets, which are opened by keras-hub itself."""

import os
import re
from typing import Any

import keras
import numpy as np

from keras_psp.imagenet import HUB

# Transformers have no convolutions to dilate, and HGNetV2's are in a single layer.
_CLASSES = (
    "CSPNetBackbone",
    "DenseNetBackbone",
    "EfficientNetBackbone",
    "MobileNetBackbone",
    "ResNetBackbone",
    "VGGBackbone",
    "XceptionBackbone",
)


def hub_backbone(name: str, *, load_weights: bool) -> tuple[keras.Model, dict[str, Any] | None]:
    """Opens the backbone of a keras-hub preset.

    Args:
        name: `HUB` and a preset as `keras_hub.models.Backbone.from_preset` takes it: a name such as
            "resnet_50_imagenet", a folder, or a handle that begins with "kaggle://" or "hf://".
        load_weights: whether to load the preset's weights; otherwise they are random.

    Returns:
        The model, and the arguments of the `ImageNormalization` before it; None if the preset has
        no image converter.

    Raises:
        ImportError: if keras-hub isn't installed.
        ValueError: if there is no such preset, or its backbone can't be dilated.
        ConnectionError: if it can't be downloaded.
    """
    check_preset(name)
    hub, preset = _keras_hub(), name.removeprefix(HUB)
    try:
        model = hub.models.Backbone.from_preset(
            preset, load_weights=load_weights, name=hub_model_name(name)
        )
        if type(model).__name__ in _CLASSES:
            return model, _normalization(hub, preset)
    except Exception as error:  # those of Kaggle, Hugging Face and Keras have no common class
        reason = str(error).strip().split("\n")[0]
        if os.path.isdir(preset):
            raise ValueError(
                f"{preset} can't be opened as a preset of keras-hub ({reason}); pass a folder "
                "that its save_to_preset wrote."
            ) from error
        raise ConnectionError(
            f"can't fetch keras-hub's preset {preset} ({reason}); pass the folder of a copy as "
            f"{HUB}FOLDER."
        ) from error
    raise _not_convolutional(preset, f"has a {type(model).__name__}")


def hub_model_name(name: str) -> str:
    """The name of a preset's model: the last part of its folder or handle, without a version."""
    parts = re.split(r"[/\\:]+", name.removeprefix(HUB).rstrip("/\\"))
    last = [part for part in parts if not part.isdigit()][-1:]
    return re.sub(r"[^\w.-]", "_", "".join(last)) or "backbone"


def check_preset(name: str) -> None:
    """Raises ImportError or ValueError if a preset is already known not to open."""
    preset = name.removeprefix(HUB)
    models = _keras_hub().models
    if "://" in preset or os.path.isdir(preset):
        return
    classes = [getattr(models, name) for name in _CLASSES if hasattr(models, name)]
    possible = [name for kind in classes for name in kind.presets]
    if preset in possible:
        return
    if preset in models.Backbone.presets:
        raise _not_convolutional(preset, "isn't among them")
    raise ValueError(
        f"backbone={name!r}: keras-hub has no preset {preset!r}, and there is no such folder; "
        f"choose one of {', '.join(sorted(possible))}, a folder, or a handle (kaggle://..., "
        "hf://...)."
    )


def _not_convolutional(preset, what):
    kinds = ", ".join(name.removesuffix("Backbone") for name in _CLASSES)
    return ValueError(
        f"backbone='{HUB}{preset}': presets of keras-hub's convolutional networks ({kinds}) can be "
        f"dilated, and {preset} {what}; choose another preset."
    )


def _keras_hub():
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            f"backbones named {HUB}PRESET need keras-hub ({error}); pip install "
            '"keras-psp[keras-hub]".'
        ) from error
    return keras_hub


def _normalization(hub, preset):
    """Returns mean and standard deviation from the preset's image * scale + offset."""
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except FileNotFoundError:
        return None
    scale = np.broadcast_to(1.0 if converter.scale is None else converter.scale, 3)
    offset = np.broadcast_to(0.0 if converter.offset is None else converter.offset, 3)
    return {
        "channel_order": "rgb",
        "mean": (-offset / scale).tolist(),
        "std": (1 / scale).tolist(),
    }
