"""The files of a preset in a folder, and the checks that come before anything is built.

The layout is that of keras-hub's presets (keras_hub/src/utils/preset_utils.py):

    config.json         the network, as Keras serializes it
    metadata.json       versions, license, where it was trained, SHA-256 of the other files
    model.weights.h5    the weights, or model.safetensors
    README.md           the model card, which its author may edit and which isn't verified
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_psp.files import OF_THE_SYSTEM
from keras_psp.version import __version__
from keras_psp.weights.facts import checked_facts, checked_license
from keras_psp.weights.files.errors import WeightsFileError, printable

CONFIG, METADATA, CARD = "config.json", "metadata.json", "README.md"
WEIGHTS = {"h5": "model.weights.h5", "safetensors": "model.safetensors"}
"""File of the weights, by format."""

PLACE = "path/to/this/folder"
"""Placeholder in a card for the preset's address, which isn't known before an upload."""

FORMAT = 1
_LARGEST_JSON = 1 << 26
_LIBRARY = "keras_psp"


def is_preset_folder(path: Path) -> bool:
    """Returns whether a folder contains a preset of this package or of a similar one."""
    return (path / METADATA).is_file() and (path / CONFIG).is_file()


def foreign_entries(folder: Path) -> list[str]:
    """Returns the names of files that aren't part of a preset of this package.

    If the folder isn't such a preset, these are all of its files.
    """
    names = sorted(set(os.listdir(folder)) - set(OF_THE_SYSTEM))
    with contextlib.suppress(WeightsFileError):  # a damaged file
        if (folder / METADATA).is_file():
            metadata = _read_json(folder / METADATA, str(folder))
            if metadata.get("library") == _LIBRARY:
                own = (CONFIG, METADATA, CARD, *WEIGHTS.values())
                return [name for name in names if name not in own]
    return names


def file_entry(path: Path) -> dict[str, Any]:
    """Returns a file's entry in metadata.json."""
    with path.open("rb") as file:
        digits = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digits, "bytes": path.stat().st_size}


def read_metadata(folder: Path, name: str | None = None) -> dict[str, Any]:
    """Reads and checks metadata.json.

    Args:
        folder: the folder.
        name: what messages call the preset; by default the folder.

    Raises:
        WeightsFileError: if the folder isn't a preset of this package, has another format
            version, or if its list of files is wrong.
    """
    name = name or str(folder)
    if not (folder / METADATA).is_file():
        raise not_a_preset(name, _describe_files(folder))
    metadata = _read_json(folder / METADATA, name)
    if metadata.get("library") != _LIBRARY:
        config = _read_json(folder / CONFIG, name) if (folder / CONFIG).is_file() else {}
        raise not_a_preset(name, describe(metadata, config))
    version, written_by = metadata.get("format"), metadata.get("keras_psp_version")
    if version != FORMAT:
        raise WeightsFileError(
            f"{name} is a preset of format {printable(version)}, written by keras_psp "
            f"{printable(written_by)}; this is {__version__}, which reads format {FORMAT}: "
            "upgrade keras_psp."
        )
    _check_list(metadata.get("files"), name)
    try:
        checked_license(metadata.get("license"))
        metadata["facts"] = checked_facts(metadata.get("facts"))
    except (AttributeError, ValueError) as error:
        raise WeightsFileError(f"{name}: {METADATA} is wrong ({printable(error)}).") from error
    return metadata


def listed_files(metadata: Mapping[str, Any]) -> list[str]:
    """Returns the names of the files that opening needs, besides metadata.json."""
    return sorted(metadata["files"])


def weights_format(metadata: Mapping[str, Any]) -> str:
    """Returns the format of the weights, a key of `WEIGHTS`."""
    return next(kind for kind, file in WEIGHTS.items() if file in metadata["files"])


def verify(folder: Path, metadata: Mapping[str, Any], name: str | None = None) -> None:
    """Compares every listed file with its size and SHA-256.

    Raises:
        WeightsFileError: if one is missing or differs; the message names it.
    """
    name = name or str(folder)
    for file, entry in metadata["files"].items():
        path = folder / file
        if not path.is_file():
            raise WeightsFileError(f"{name} lacks {file}, which its {METADATA} lists.")
        present = file_entry(path)
        if present != {"sha256": entry["sha256"], "bytes": entry["bytes"]}:
            raise WeightsFileError(
                f"{name}: {file} has the SHA-256 {present['sha256'][:8]}... instead of "
                f"{printable(entry['sha256'])[:8]}... in {METADATA}: it is damaged, or was changed "
                f"after it was saved; delete {os.path.realpath(path)} and get it again."
            )


def read_config(folder: Path, name: str | None = None) -> dict[str, Any]:
    """Reads config.json."""
    return _read_json(folder / CONFIG, name or str(folder))


def not_a_preset(name: str, found: str) -> WeightsFileError:
    """Returns the error for something that isn't a preset of this package."""
    return WeightsFileError(
        f"{name} isn't a preset of keras_psp but {found}; model.save_to_preset(folder) writes one."
    )


def describe(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Returns what another library's metadata.json and config.json belong to."""
    kind = printable(config.get("class_name") or config.get("registered_name") or "something")
    for key, library in (("keras_hub_version", "keras-hub"), ("keras_nlp_version", "keras-nlp")):
        if key in metadata:
            return f"one of {library} {printable(metadata[key])} ({kind})"
    if "model_type" in config:
        return f"a {printable(config['model_type'])} model of transformers"
    if "architecture" in config:
        return f"a {printable(config['architecture'])} model of timm"
    if "keras_version" in metadata:
        return f"a saved {kind} of Keras {printable(metadata['keras_version'])}"
    return f"something else, with {METADATA if metadata else CONFIG} of another form"


def describe_names(names: list[str]) -> str:
    """Returns what a folder with files of these names is."""
    names = sorted(name for name in names if not name.startswith("."))
    if "recipe.json" in names:
        return "the folder of a training run, which PSPNet(weights=...) and --model take"
    shown = ", ".join(map(printable, names[:3])) + (", ..." if len(names) > 3 else "")
    return f"a folder of {shown}" if names else "an empty folder"


def _describe_files(folder):
    if (folder / CONFIG).is_file():
        return describe({}, _read_json(folder / CONFIG, str(folder)))
    return describe_names(os.listdir(folder))


def _read_json(path, name):
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError("it is too large")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"it contains a {type(content).__name__}")
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(
            f"{name}: {path.name} is damaged ({printable(error)}); get it again."
        ) from error
    return content


def _check_list(files, name):
    """Checks that a preset's list of files is complete and names nothing else."""
    if not isinstance(files, dict):
        raise WeightsFileError(f"{name}: {METADATA} has no list of files; save the preset again.")
    known = (CONFIG, *WEIGHTS.values())
    if unknown := [file for file in files if file not in known]:
        raise WeightsFileError(
            f"{name}: {METADATA} lists {printable(unknown[0])}, which isn't a file of a preset; "
            "nothing was loaded."
        )
    if CONFIG not in files or len(files) != 2:
        raise WeightsFileError(
            f"{name}: {METADATA} must list {CONFIG} and one of {' and '.join(WEIGHTS.values())}; "
            "nothing was loaded."
        )
    for file, entry in files.items():
        if not isinstance(entry, dict) or not {"sha256", "bytes"} <= entry.keys():
            raise WeightsFileError(f"{name}: {METADATA} has no checksum of {file}.")
