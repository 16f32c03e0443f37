"""Facts about the network of a training run, for the model card of a preset."""

import math
import os
from pathlib import Path
from typing import Any

from keras_psp.files import local_path
from keras_psp.resume import read_json, read_record
from keras_psp.training.log import EPOCH_COLUMNS, Table
from keras_psp.weights.hubs.addresses import hub_address
from keras_psp.weights.locating import IMAGENET, networks
from keras_psp.weights.presets import all_presets

# Names of the `keras-psp` program in a command; those of scripts and notebooks differ.
_PROGRAMS = ("keras-psp", "__main__")


def run_facts(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns facts about a run's best network, or the last one if there is no best.

    Paths on this machine become names, since the facts are published with the network.

    Args:
        folder: The folder of the run.

    Returns:
        Facts for `PSPNet.save_to_preset`: data set, mean IoU, recipe, command.

    Raises:
        ValueError: If it isn't the folder of a run, or a file is damaged.

    Example:
        model = keras_psp.PSPNet(weights="runs/camvid")
        model.save_to_preset("camvid", facts=keras_psp.training.run_facts("runs/camvid"))
    """
    path = local_path("folder", folder)
    if not (path / "recipe.json").is_file():
        raise ValueError(f"{path} isn't the folder of a training run: it has no recipe.json.")
    recipe = read_record(path / "recipe.json", "restore it, or give the facts yourself")
    rows = Table(path / "log.csv", EPOCH_COLUMNS, writes=False).rows
    mean_iou, epochs = _figures(rows, best=[p.name for p in networks(path)][:1] == ["best.keras"])
    facts = {
        "dataset": recipe.get("dataset") if recipe.get("dataset") != "folder" else "own images",
        "split": recipe.get("val_split") if mean_iou is not None else None,
        "mean_iou": mean_iou,
        "training_images": recipe.get("examples"),
        "epochs": epochs,
        "crop_size": _pair(recipe.get("crop_size")),
        "image_size": _pair(recipe.get("image_size")),
        "weights": _weights(recipe.get("weights")),
        "recipe": recipe.get("name"),
        "command": _command(path / "starts.json"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _figures(rows, *, best):
    """The mean IoU and the number of epochs of the best or last network; None if unknown."""
    scores = [(float(row["val_mean_iou"] or "nan"), int(row["epoch"])) for row in rows]
    scores = [score for score in scores if not math.isnan(score[0])]
    if not scores:
        return None, int(rows[-1]["epoch"]) if rows else None
    # The first of equal ones, as when it was saved.
    return max(scores, key=lambda score: score[0]) if best else scores[-1]


def _pair(size):
    return [size, size] if isinstance(size, int) else size


def _weights(weights):
    if weights is None or weights in IMAGENET or weights in all_presets():
        return weights
    return weights if hub_address(weights) else Path(weights).name


def _command(path):
    """The first command, if it was `keras-psp`."""
    starts = read_json(path, "restore it, or remove it", list) if path.is_file() else []
    words = starts[0].get("command") if starts and isinstance(starts[0], dict) else None
    if not words or Path(words[0]).stem not in _PROGRAMS:
        return None
    return " ".join(["keras-psp", *map(_word, words[1:])])


def _word(word):
    word = str(word)
    name, equals, value = word.rpartition("=")
    if value.startswith(("~", "..")) or os.path.isabs(value):
        value = Path(value).name
    return f"{name}{equals}{value}"
