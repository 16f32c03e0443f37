"""What travels with an exported file: classes, colours, origin, and how to use it."""

import json
from typing import Any

from keras_psp.export.graph import Signature, class_dtype
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet
from keras_psp.palette import default_palette

NAME = "keras_psp.json"
"""The file beside or inside an export; in ONNX and OpenVINO the key without ".json"."""


def metadata(
    model: PSPNet,
    signature: Signature,
    *,
    preset: str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """All that a program without keras_psp needs to use an export and to show what it found.

    Args:
        model: the network.
        signature: what goes in and comes out.
        preset: name of the published network, or of the training, that it is.
        licence: under which its weights are, as "CC BY-NC 4.0".

    Returns:
        plain data for JSON: "library", "network", "preset", "licence", "num_classes",
        "class_names" and "palette" (one a class; "class 0" ... and colours of
        `visual.default_palette` where the network has none), "input" and "output".
    """
    from keras_psp.version import __version__

    count = model.num_classes
    palette = model.palette
    if palette is None:
        # default_palette ends at 256 classes; more repeat.
        spread = default_palette(min(count, 256)).tolist()
        palette = [spread[index % len(spread)] for index in range(count)]
    return {
        "library": f"keras_psp {__version__}",
        "network": "PSPNet (arXiv 1612.01105)",
        "preset": preset,
        "licence": licence,
        "num_classes": count,
        "class_names": list(model.class_names or [f"class {index}" for index in range(count)]),
        "palette": palette,
        "input": {
            "name": "image",
            "dtype": signature.input_dtype,
            "shape": list(signature.shape),
            "layout": "NHWC",
            "meaning": "RGB, 0 to 255; normalisation is inside",
            "smallest_side": smallest_side(model),
        },
        "output": {
            "name": signature.output,
            "dtype": class_dtype(count) if signature.output == "classes" else "float32",
            "meaning": {
                "classes": "index of the class of every pixel, (batch, height, width)",
                "logits": "one number a class and pixel, (batch, height, width, classes)",
                "probabilities": "sum to one a pixel, (batch, height, width, classes)",
            }[signature.output],
        },
    }


def metadata_json(found: dict[str, Any]) -> str:
    """As text, the same for the same network."""
    return json.dumps(found, indent=1, ensure_ascii=False)
