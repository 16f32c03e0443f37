"""What all exports share: a float32 model, and a target that is whole or absent."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import keras


def require_tensorflow_backend(target):
    """Exports trace the model with TensorFlow."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"{target} is written by TensorFlow but Keras runs on {backend}; save the model "
            "as .keras and export it in a process with KERAS_BACKEND=tensorflow."
        )


def float32_model(model):
    """The model, rebuilt in float32 if it computes in half precision.

    A mixed-precision model converts without complaint to files that do not run.
    """
    if model.backbone.compute_dtype == "float32":
        return model
    config = model.get_config()
    config["dtype"] = "float32"
    config["backbone"]["config"]["dtype"] = "float32"
    rebuilt = type(model).from_config(config)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


@contextlib.contextmanager
def written_aside(path):
    """A temporary path beside `path` that takes its place once the block has succeeded.

    Readers see the old file or folder or the new one, never half of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        aside = folder / "new"
        yield aside
        if path.is_dir():
            # A folder cannot replace a full folder in one step.
            os.replace(path, folder / "old")
        os.replace(aside, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
