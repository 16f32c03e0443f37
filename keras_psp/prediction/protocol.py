"""What a network is tested by, where it isn't told."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Of the paper's multi-scale figures, with flip; semseg's config/ade20k/*.yaml names them."""


def run_folder(model: Any) -> Path | None:
    """The folder of a training, if that is what `model` is."""
    if not isinstance(model, str | os.PathLike):
        return None
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else None


def chosen_base_size(model: Any, base_size: int | Literal["auto"] | None) -> int | None:
    """The base size; for "auto" that of the training whose folder `model` is, or of the preset.

    A training with `image_size` has seen no larger images, so its network is tested at that size.

    Returns:
        Length of the longer side at scale 1, None for every image's own.
    """
    if base_size != "auto":
        return base_size
    folder = run_folder(model)
    if folder is None and isinstance(model, str | os.PathLike):
        from keras_psp.weights.presets import find_preset, preset_names

        return find_preset(str(model)).base_size if str(model) in preset_names() else None
    if folder is None or not (folder / "recipe.json").is_file():
        return None
    size = json.loads((folder / "recipe.json").read_text("utf-8")).get("image_size")
    if not size:
        return None
    print(f"base_size={max(size)}, as the training had it", file=sys.stderr)
    return max(size)
