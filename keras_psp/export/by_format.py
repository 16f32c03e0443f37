"""Exports chosen by the name of their format, as `keras.Model.export` does."""

import dataclasses
import inspect
import os
from collections.abc import Callable
from typing import Any

from keras_psp.export import to_onnx
from keras_psp.export.to_onnx import onnx
from keras_psp.export.to_openvino import openvino
from keras_psp.export.to_saved_model import saved_model
from keras_psp.export.to_tf_serving import tf_serving
from keras_psp.export.to_tflite import tflite
from keras_psp.models.pspnet import PSPNet


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format, and the function of `keras_psp.export` that writes it."""

    write: Callable[..., Any]
    ending: str = ""  # of the names of its files or folders


FORMATS = {
    "saved_model": Format(saved_model, "_saved_model"),
    "tf_serving": Format(tf_serving),
    "tflite": Format(tflite, ".tflite"),
    "onnx": Format(onnx, ".onnx"),
    "openvino": Format(openvino, "_openvino"),
}

KERAS_FORMATS = {
    "tf_saved_model": "saved_model",
    "litert": "tflite",
    "tflite": "tflite",
    "onnx": "onnx",
    "openvino": "openvino",
}
"""Formats of `keras.Model.export`, and LiteRT's former name."""

_REMEDIES = {
    "input_signature": "give image_size=(height, width), batch_size= and input_dtype=",
    "opset_version": f"leave it out; ONNX files use opset {to_onnx.OPSET}",
    "is_static": "leave it out",
    "jax2tf_kwargs": "leave it out; this export runs on Keras' TensorFlow backend",
    "optimizations": "give precision=",
    "representative_dataset": "give precision='int8' and representative=",
    "progress": "give verbose=",
}


def export_model(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    format: str = "tf_saved_model",
    verbose: bool | str | None = None,
    **options: Any,
) -> None:
    """Exports a network for inference in a program without Keras; `PSPNet.export` calls it.

    Args:
        model: the network.
        path: the file or folder to write. Names of ONNX files end in .onnx, LiteRT's in .tflite.
        format: "tf_saved_model", "onnx", "openvino" or "litert" (or "tflite").
        verbose: report progress on stderr; None is True.
        **options: those of `keras_psp.export.saved_model`, `onnx`, `openvino` or `tflite`, e.g.
            image_size=(473, 473), output="logits" or precision="int8".

    Raises:
        ValueError: if the format is unknown, or doesn't have an option.

    Example:
        >>> model = PSPNet.from_preset("pspnet_r18-d8_128x128_scenes")
        >>> export_model(model, "pspnet.onnx", format="onnx", image_size=(128, 128))
    """
    if not isinstance(format, str) or format not in KERAS_FORMATS:
        raise ValueError(f"format={format!r} is unknown; choose one of {', '.join(KERAS_FORMATS)}.")
    write = FORMATS[KERAS_FORMATS[format]].write
    options = {name: value for name, value in options.items() if value is not None}
    accepted = list(inspect.signature(write).parameters)[2:]  # after model and path
    progress = {"progress": verbose is None or bool(verbose)} if "progress" in accepted else {}
    for name in options:
        if name in progress or name not in accepted:
            names = ", ".join(option for option in accepted if option not in progress)
            remedy = _REMEDIES.get(name, f"choose from {names}")
            raise ValueError(f"format={format!r} has no option {name}={options[name]!r}; {remedy}.")
    write(model, path, **options, **progress)
