"""Opens trained networks by name, file or folder, whole or as weights for a new PSPNet."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.files import local_path
from keras_psp.imagenet import has_keras_model
from keras_psp.models.pretrained import PresetName
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights.conversion import convert, convert_checkpoint, read_network
from keras_psp.weights.families import BACKBONES, recognized
from keras_psp.weights.files import file_format
from keras_psp.weights.hubs.addresses import hub_address
from keras_psp.weights.hubs.downloading import download
from keras_psp.weights.imagenet import imagenet_weights
from keras_psp.weights.locating import IMAGENET, existing_weights, is_preset, locate_model, networks
from keras_psp.weights.named_backbones import NamedBackbone, named_backbone
from keras_psp.weights.preset_folder import METADATA, read_metadata
from keras_psp.weights.presets import all_presets
from keras_psp.weights.published import open_preset
from keras_psp.weights.saving import open_preset_folder
from keras_psp.weights.transfer import BackboneWeights, NetworkWeights


def open_weights(
    weights: Any, given: Mapping[str, Any]
) -> NetworkWeights | BackboneWeights | NamedBackbone:
    """Opens the `weights` passed to a `PSPNet`, whose other arguments are `given`.

    They are a `PSPNet`, a preset (its name, folder or address on a hub), a key of `IMAGENET`, the
    path of one or two files, or the folder of a training run.
    """
    if isinstance(weights, PSPNet):
        return NetworkWeights(weights, weights.name, given, weights.get_config()["dtype"])
    if isinstance(weights, list | tuple):  # an encoder's and a decoder's file
        return NetworkWeights(convert(weights, verbose=False), Path(weights[0]).name, given)
    name = str(weights)
    if _is_backbones(name, given):
        return named_backbone(name, given)
    if isinstance(weights, PresetName) or is_preset(name):
        return _open_preset(name, given)
    if name in IMAGENET:
        return imagenet_weights(name, given)
    path = existing_weights(name)
    path = networks(path)[0] if networks(path) else path
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


def _is_backbones(name, given):
    """Whether weights are those of a backbone that isn't a ResNet, not of a whole network."""
    if not has_keras_model(given.get("backbone")):
        return False
    if name in IMAGENET:
        return True
    if is_preset(name):
        return False
    path = existing_weights(name)
    return path.is_file() and file_format(path) != "keras"


def _open_preset(name, given):
    if name in all_presets():
        return NetworkWeights(open_preset(name), name, given)
    folder = preset_location(name)
    if folder is None:
        return NetworkWeights(open_preset(name), name, given)  # raises, with the nearest names
    model = open_preset_folder(folder, name)
    return NetworkWeights(model, name, given, model.get_config()["dtype"])


def preset_location(name: str) -> Path | None:
    """Returns a preset's folder, which is fetched on first use if the name is a hub's address.

    Returns None if there is no such folder.
    """
    if address := hub_address(name):
        return download(address)
    path = local_path("name", name)
    return path if path.is_dir() else None


def preset_image_size(name: str) -> list[int] | None:
    """Returns the (height, width) to which a preset's training resized its images, if any."""
    folder = None if name in all_presets() else preset_location(name)
    return read_metadata(folder, name)["facts"].get("image_size") if folder else None


def open_model(model: Any) -> PSPNet:
    """Opens a trained network: a `PSPNet`, or anything that `locate_model` accepts."""
    if isinstance(model, PSPNet):
        return model
    located, precision = locate_model(model), keras.config.dtype_policy().name
    if isinstance(located, str):
        return _opened(located, None, precision)
    status = (located / METADATA if located.is_dir() else located).stat()
    version = (status.st_ino, status.st_size, status.st_mtime_ns)
    # With its parents, a folder's name isn't that of a published preset.
    return _opened(str(located.absolute()), version, precision)


@functools.lru_cache(maxsize=1)
def _opened(name, version, precision):
    del precision  # of networks that are stored without one
    if version is None or Path(name).is_dir():
        return PSPNet.from_preset(name)
    return convert(name, verbose=False)


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
