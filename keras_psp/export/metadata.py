"""Metadata of an exported file: its classes, colors and origin, and how to use it."""

import json
from typing import Any

from keras_psp.arguments import checked_string
from keras_psp.export.graph import Signature
from keras_psp.models.arrays import image_scale
from keras_psp.models.checks import smallest_side
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.models.pspnet import PSPNet
from keras_psp.version import __version__

NAME = "keras_psp.json"
"""The file next to or inside an export; in ONNX and OpenVINO, the key without ".json"."""


def metadata(
    model: PSPNet, signature: Signature, *, preset: str | None = None, license: str | None = None
) -> dict[str, Any]:
    """Returns all that a program without keras_psp needs to run an export and show its results.

    Args:
        model: the network.
        signature: its inputs and outputs.
        preset: name of the preset or of the training run.
        license: the weights' license, e.g. "CC BY-NC 4.0".

    Returns:
        Plain data for JSON: "library", "network", "preset", "license", "num_classes",
        "class_names" and "palette" (one entry per class; "class 0" ... and the colors of
        `palette.default_palette` if the network has none), "input" and "output".
    """
    for name, text in (("preset", preset), ("license", license)):
        if text is not None:
            checked_string(name, text)
    return {
        "library": f"keras_psp {__version__}",
        "network": "PSPNet (arXiv 1612.01105)",
        "preset": preset,
        "license": license,
        "num_classes": model.num_classes,
        "class_names": list(class_names_of(model)),
        "palette": palette_of(model).tolist(),
        "input": {
            "name": "image",
            "dtype": signature.input_dtype,
            "shape": list(signature.shape),
            "layout": "NHWC",
            "meaning": (
                f"RGB, 0 to {image_scale(model) or 255}; normalization is part of the network"
                if signature.channels == 3
                else "bands of the training's images in their units; normalization is part of the "
                "network"
            ),
            "smallest_side": smallest_side(model),
        },
        "output": {
            "name": signature.output,
            "temperature": model.temperature,  # logits and probabilities have it already
            "dtype": signature.output_dtype(model.num_classes),
            "meaning": {
                "classes": "class index of each pixel, (batch, height, width)",
                "logits": "one score per pixel and class, (batch, height, width, classes)",
                "probabilities": "sum to one per pixel, (batch, height, width, classes)",
            }[signature.output],
        },
    }


def metadata_json(about: dict[str, Any]) -> str:
    """The metadata as text, always the same for the same network."""
    return json.dumps(about, indent=1, ensure_ascii=False)
