"""Saves a network to the folder of a preset, and opens it again."""

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras

from keras_psp.arguments import checked_choice
from keras_psp.files import local_path, sweep, written_aside
from keras_psp.models.checks import check_weights
from keras_psp.models.pspnet import PSPNet
from keras_psp.version import __version__
from keras_psp.weights import preset_folder
from keras_psp.weights.card import card
from keras_psp.weights.facts import checked_facts, checked_license
from keras_psp.weights.files.errors import WeightsFileError, naming
from keras_psp.weights.preset_folder import CARD, CONFIG, FORMAT, METADATA, WEIGHTS
from keras_psp.weights.safe_config import check_config
from keras_psp.weights.variables import load_variables, save_variables


def save_to_preset(
    model: PSPNet,
    folder: str | os.PathLike,
    *,
    license: str | None = None,
    facts: Mapping[str, Any] | None = None,
    weights_format: Literal["h5", "safetensors"] = "h5",
) -> Path:
    """Writes the folder of `PSPNet.save_to_preset`, which is complete or absent at any moment."""
    path = local_path("folder", folder)
    checked_choice("weights_format", weights_format, tuple(WEIGHTS))
    license, facts = checked_license(license), checked_facts(facts)
    sweep(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; a preset is a folder.")
    if path.exists() and (foreign := preset_folder.foreign_entries(path)):
        raise ValueError(
            f"{path} contains {foreign[0]}, which would be lost, since it isn't part of a "
            "preset of keras_psp; choose another folder, or move it."
        )
    check_weights(model, "the network")
    config = json.dumps(_config(model), indent=1)
    try:
        check_config(json.loads(config))
    except WeightsFileError as error:
        raise ValueError(
            f"{model.name} can't be a preset, since nobody could open it without its code: in "
            f"its configuration {error} Save it as a .keras file instead."
        ) from None
    with written_aside(path) as draft:
        draft.mkdir()
        (draft / CONFIG).write_text(config + "\n", "utf-8")
        save_variables(model, draft / WEIGHTS[weights_format])
        files = (CONFIG, WEIGHTS[weights_format])
        metadata = {
            "library": "keras_psp",
            "format": FORMAT,
            "keras_psp_version": __version__,
            "keras_version": keras.version(),
            "parameter_count": model.count_params(),
            "date_saved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "license": license,
            "facts": facts,
            "files": {file: preset_folder.file_entry(draft / file) for file in files},
        }
        (draft / METADATA).write_text(json.dumps(metadata, indent=1) + "\n", "utf-8")
        text = card(model, license=license, facts=facts)
        (draft / CARD).write_text(text, "utf-8", newline="\n")
    return path


def _config(model):
    config = keras.saving.serialize_keras_object(model)
    return {key: config[key] for key in ("module", "class_name", "config", "registered_name")}


def open_preset_folder(folder: Path, name: str | None = None) -> PSPNet:
    """Opens a preset's folder; runs no code from it.

    Everything is checked before the network is built: the version, the list of files, their
    sizes and SHA-256, and which objects the configuration names.

    Args:
        folder: the folder.
        name: what messages call the preset; by default the folder.

    Raises:
        WeightsFileError: if something is wrong; the message names the file.
    """
    name = name or str(folder)
    metadata = preset_folder.read_metadata(folder, name)
    preset_folder.verify(folder, metadata, name)
    config = preset_folder.read_config(folder, name)
    with naming(f"{name}: {CONFIG}"):
        check_config(config)
    model = _build(config["config"], metadata, name)
    file = WEIGHTS[preset_folder.weights_format(metadata)]
    load_variables(model, folder / file, f"{name}: {file}")
    try:
        check_weights(model, name)
    except ValueError as error:
        raise WeightsFileError(str(error)) from None
    return model


def _build(arguments, metadata, name):
    try:
        return PSPNet.from_config(arguments)
    except Exception as error:  # Keras raises errors of many types
        first = str(error).strip().split("\n")[0]
        raise WeightsFileError(
            f"{name}: {CONFIG} doesn't make a network ({first}); it was written by keras_psp "
            f"{metadata.get('keras_psp_version')} and Keras {metadata.get('keras_version')}, these "
            f"are {__version__} and {keras.version()}."
        ) from error
