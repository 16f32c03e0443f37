"""Resolves names, files and folders to trained networks, without importing Keras."""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

from keras_psp.files import local_path
from keras_psp.weights.hubs.addresses import hub_address
from keras_psp.weights.preset_folder import is_preset_folder
from keras_psp.weights.presets import all_presets, find_preset

DEFAULT_MODEL = "pspnet_r18-d8_128x128_scenes"
"""The preset that comes with the package and needs no download."""

# Sources by name and depth: torchvision/models/resnet.py (the second version where there
# are two) and mmcv/model_zoo/open_mmlab.json.
IMAGENET: dict[str, dict[int, str]] = {
    name: {int(depth): source for depth, source in sources.items()}
    for name, sources in json.loads(Path(__file__).with_name("imagenet.json").read_bytes()).items()
}
"""ImageNet checkpoints, or models of keras.applications, by name and depth of the ResNet."""


def locate_model(model: Any) -> Path | str:
    """Returns the file of a trained network, the folder of a preset, or a preset's name.

    Args:
        model: a preset's name, its address on a hub or its folder, a file, the folder of a training
            run, or None for `DEFAULT_MODEL`. A preset's name is never a folder of the same name,
            which "./NAME" opens.

    Raises:
        TypeError: if it is neither a string nor a path.
        ValueError: if there is no such preset, an address is wrong, or a folder has no network.
        FileNotFoundError: if there is no such file.
    """
    model = chosen_model(model)
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model is an object of type {type(model).__name__}; it must be a PSPNet, a preset's "
            "name, a file or the folder of a training run."
        )
    if address := hub_address(model):
        return str(address)
    if os.fspath(model) in all_presets():
        return os.fspath(model)
    path = local_path("model", model)
    if path.is_dir():
        files = networks(path) or ([path] if is_preset_folder(path) else [])
        if not files:
            raise ValueError(
                f"{model}: neither best.keras nor last.keras is in this folder; pass the folder "
                "of a training run that has finished an evaluation, or a file."
            )
        return files[0]
    if path.is_file():
        return path
    if is_path(path):
        raise FileNotFoundError(f"model {str(model)!r}: there is no such file or folder.")
    try:
        return find_preset(str(model)).name
    except ValueError as error:
        raise ValueError(
            f"model {str(model)!r} is neither a file nor a folder, and {error}"
        ) from None


def existing_weights(name: str) -> Path:
    """Returns the path of weights that aren't the name of a preset or in `IMAGENET`.

    Raises:
        ValueError: if a name is unknown.
        FileNotFoundError: if there is no such file.
    """
    if not name:
        raise ValueError("weights='' is empty; pass None for random weights.")
    path = local_path("weights", name)
    if path.exists():
        return path
    if is_path(path):
        raise FileNotFoundError(f"weights={name!r}: there is no such file.")
    try:
        return Path(find_preset(name).name)
    except ValueError as error:
        raise ValueError(
            f"weights={name!r} is neither a file nor one of {', '.join(IMAGENET)}, and {error}"
        ) from None


def is_preset(name: str) -> bool:
    """Returns whether a name, address or folder is that of a preset, which need not exist on a hub.

    Raises:
        ValueError: if it begins like a hub's address but isn't a valid one.
    """
    if name in all_presets() or hub_address(name):
        return True
    return bool(name) and is_preset_folder(local_path("weights", name))


def imagenet_source(name: str, depth: int) -> str:
    """Returns the URL, or the keras.applications model, of the weights for one depth."""
    sources = IMAGENET[name]
    if depth not in sources:
        raise ValueError(
            f"weights={name!r} exist for depths {', '.join(map(str, sources))}, not {depth}; "
            "pass the path of a checkpoint, or None for random weights."
        )
    return sources[depth]


def chosen_model(model: Any) -> Any:
    """Returns the model, or `DEFAULT_MODEL` for None, with a note on stderr."""
    if model is None:
        _report_default()
        return DEFAULT_MODEL
    return model


def networks(folder: Path) -> list[Path]:
    """Returns the networks in the folder of a training run, the best one first."""
    return [folder / name for name in ("best.keras", "last.keras") if (folder / name).is_file()]


def is_path(path: Path) -> bool:
    """Returns whether a name can only be a path: preset names have no suffix or folder."""
    return bool(path.suffix) or path.parent != Path(".")


@functools.cache
def _report_default():
    print(
        f"model: {DEFAULT_MODEL}, which comes with keras_psp and knows generated scenes only; for "
        "photos choose a preset that is downloaded once, e.g. pspnet_r50-d8_512x512_160k_ade20k",
        file=sys.stderr,
    )
