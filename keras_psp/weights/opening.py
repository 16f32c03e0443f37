"""Opens trained networks by name, file or folder, whole or as weights for a new PSPNet."""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.files import local_path
from keras_psp.models.pretrained import PresetName
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights.conversion import convert, convert_checkpoint, read_network
from keras_psp.weights.families import BACKBONES, recognized
from keras_psp.weights.files import file_format
from keras_psp.weights.imagenet import IMAGENET, imagenet_weights
from keras_psp.weights.presets import all_presets, find_preset, open_preset
from keras_psp.weights.transfer import BackboneWeights, NetworkWeights

DEFAULT_MODEL = "pspnet_r18-d8_128x128_scenes"
"""The preset that comes with the package and needs no download."""


def open_weights(weights: Any, given: Mapping[str, Any]) -> NetworkWeights | BackboneWeights:
    """Opens the value of `PSPNet(weights=...)`; `given` are the other arguments that it got.

    That is a `PSPNet`, a preset, a key of `IMAGENET`, the path of one or two files, or the folder
    of a training run.
    """
    if isinstance(weights, PSPNet):
        return NetworkWeights(weights, weights.name, given, weights.get_config()["dtype"])
    if isinstance(weights, list | tuple):  # an encoder's and a decoder's file
        return NetworkWeights(convert(weights, verbose=False), Path(weights[0]).name, given)
    name = str(weights)
    if not name:
        raise ValueError("weights='' is empty; pass None for random weights.")
    if name in all_presets() or isinstance(weights, PresetName):
        return NetworkWeights(open_preset(name), name, given)
    if name in IMAGENET:
        return imagenet_weights(name, given)
    path = local_path("weights", name)
    if not path.exists():
        if _is_path(path):
            raise FileNotFoundError(f"weights={name!r}: there is no such file.")
        try:
            find_preset(name)
        except ValueError as error:
            raise ValueError(
                f"weights={name!r} is neither a file nor one of {', '.join(IMAGENET)}, and {error}"
            ) from None
    path = _networks(path)[0] if _networks(path) else path
    if path.is_dir():
        return NetworkWeights(convert(path, verbose=False), path.name, given)
    if file_format(path) == "keras":
        model = convert(path, verbose=False)
        return NetworkWeights(model, path.name, given, model.get_config()["dtype"])
    checkpoint = read_network(path)
    family = recognized(checkpoint.tensors, BACKBONES)
    # A segmentation network also contains the names of its backbone.
    if family is None or recognized(checkpoint.tensors) is not family:
        return NetworkWeights(convert_checkpoint(checkpoint, verbose=False), path.name, given)
    return BackboneWeights(family, checkpoint.tensors, path.name, given)


def _networks(folder):
    """The networks in the folder of a training run, the best one first."""
    return [folder / name for name in ("best.keras", "last.keras") if (folder / name).is_file()]


def _is_path(path):
    """Whether a name can only be a path: the names of presets have no suffix or folder."""
    return path.suffix or path.parent != Path(".")


def chosen_model(model: Any) -> Any:
    """Returns the model, or `DEFAULT_MODEL` for None, with a note on stderr."""
    if model is None:
        _report_default()
        return DEFAULT_MODEL
    return model


@functools.cache
def _report_default():
    print(
        f"model: {DEFAULT_MODEL}, which comes with keras_psp and knows generated scenes only; for "
        "photos choose a preset that is downloaded once, e.g. pspnet_r50-d8_512x512_160k_ade20k",
        file=sys.stderr,
    )


def open_model(model: Any) -> PSPNet:
    """Opens a trained network.

    That is a `PSPNet`, a preset's name, a file that `convert` opens, the folder of a training
    run, or None for `DEFAULT_MODEL`.
    """
    if isinstance(model, PSPNet):
        return model
    model = chosen_model(model)
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model is an object of type {type(model).__name__}; it must be a PSPNet, a preset's "
            "name, a file or the folder of a training run."
        )
    path = local_path("model", model)
    if path.is_dir():
        files = _networks(path)
        if not files:
            raise ValueError(
                f"{model}: neither best.keras nor last.keras is in this folder; pass the folder "
                "of a training run that has finished an evaluation, or a file."
            )
        path = files[0]
    if path.is_file():
        status = path.stat()
        return _opened(str(path), (status.st_ino, status.st_size, status.st_mtime_ns))
    if _is_path(path):
        raise FileNotFoundError(f"model {str(model)!r}: there is no such file or folder.")
    return _opened(str(model), None)


@functools.lru_cache(maxsize=1)
def _opened(name, version):
    return PSPNet.from_preset(name) if version is None else convert(name, verbose=False)


def digest(model: PSPNet) -> str:
    """Returns 16 hexadecimal digits that identify a network's weights and settings.

    The settings include the dtype policy, mean and std, `align_corners` and the class colors.
    The model's name and which layers are frozen don't count, since they change no result.
    """
    config = {key: value for key, value in model.get_config().items() if key != "name"}
    text = json.dumps([config, model.dtype_policy.name], default=str)
    settings = json.loads(text, object_hook=_without_frozen)
    digits = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for weight in model.weights:
        digits.update(np.ascontiguousarray(np.asarray(weight)).tobytes())
    return digits.hexdigest()[:16]


def _without_frozen(config):
    """A configuration without the keys that state which layers are frozen."""
    return {key: value for key, value in config.items() if key not in ("frozen", "trainable")}
