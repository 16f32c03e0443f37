"""Checks of what was typed, before Keras is imported."""

from pathlib import Path
from typing import Any


def check_model(model: Any) -> None:
    """Raises an error unless a model is a preset's name, a file or the folder of a training run."""
    from keras_psp.weights.locating import locate_model

    if model is not None:
        locate_model(model)


def check_output(folder: Path | None) -> None:
    """Raises ValueError if the folder of the results, or one that it would be in, is a file."""
    if folder is not None:
        for path in (folder, *folder.parents):
            if path.exists() and not path.is_dir():
                raise ValueError(f"--output {folder}: {path} is a file; choose another folder.")
