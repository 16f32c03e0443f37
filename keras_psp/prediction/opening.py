"""Opens a model's name, file or folder as a `Segmenter`."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from keras_psp.files import local_path
from keras_psp.prediction.protocol import Protocol
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.resume import read_record
from keras_psp.weights.hubs.addresses import hub_address
from keras_psp.weights.locating import chosen_model, is_preset
from keras_psp.weights.opening import open_model, preset_image_size
from keras_psp.weights.presets import all_presets, find_preset


def open_segmenter(model: Any, protocol: Protocol) -> Segmenter:
    """Opens a model and chooses how images are resized.

    Args:
        model: see `keras_psp.predict`.
        protocol: the settings; if `base_size` or `antialias` is "auto", the model's is used.

    Raises:
        ValueError, FileNotFoundError, TypeError: if there is no such model.
    """
    model = chosen_model(model)
    network = open_model(model)
    return Segmenter(network, with_own_sizes(protocol, model))


def with_own_sizes(protocol: Protocol, model: Any) -> Protocol:
    """Replaces "auto" in a protocol by how the model's training resized its images."""
    base_size, antialias = protocol.base_size, protocol.antialias
    image_size = None if base_size is None else _image_size(model)
    if base_size == "auto" and isinstance(model, str) and model in all_presets():
        base_size = find_preset(model).base_size
    elif base_size == "auto":  # larger images than its training's were never seen
        base_size = image_size and max(image_size)
        if base_size:
            print(f"base_size={base_size}, as in training", file=sys.stderr)
    if antialias == "auto":
        antialias = image_size is not None
    return dataclasses.replace(protocol, base_size=base_size, antialias=antialias)


def run_folder(model: Any) -> Path | None:
    """The folder of a training run, if `model` names one or a `.keras` file in it."""
    if not isinstance(model, str | os.PathLike) or hub_address(model):
        return None
    path = local_path("model", model)
    if path.suffix == ".keras":
        return path.parent if (path.parent / "recipe.json").is_file() else None
    return path if path.is_dir() else None


def _image_size(model):
    """The (height, width) to which a model's training resized its images; None if it didn't."""
    if isinstance(model, str | os.PathLike) and is_preset(str(model)):
        return preset_image_size(str(model))
    folder = run_folder(model)
    if folder is None or not (folder / "recipe.json").is_file():
        return None
    remedy = "restore it, or give base_size=None"
    return read_record(folder / "recipe.json", remedy).get("image_size")
