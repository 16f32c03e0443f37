"""What all exports share: a float32 model, and a target that is whole or absent."""

from pathlib import Path

import keras
import numpy as np


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


def as_input(images, dtype, size, smallest=1):
    """Images in an exported graph's own type.

    Refuses what the graph would answer with nonsense or the end of the process.

    Args:
        images: (batch, height, width, 3), RGB 0..255, of any type; rounded for uint8.
        dtype: numpy type of the graph's input.
        size: (height, width), None where it takes any.
        smallest: pixels of a side, where it takes any.
    """
    _check_images(images, size, smallest)
    images = np.asarray(images)
    if np.dtype(dtype) == np.uint8 and images.dtype != np.uint8:
        images = np.clip(np.rint(images), 0, 255)
    return images.astype(dtype, copy=False)


def _check_images(images, size, smallest):
    shape = np.shape(images)
    expected = tuple(size)
    if len(shape) != 4 or shape[-1] != 3 or shape[0] == 0:
        raise ValueError(
            f"images have shape {shape}; give RGB batches (batch, height, width, 3) of at "
            "least one image."
        )
    if None not in expected and shape[1:3] != expected:
        raise ValueError(
            f"images are {shape[1]}x{shape[2]} but this file was exported for "
            f"{expected[0]}x{expected[1]}; resize the images or export with "
            f"image_size=({shape[1]}, {shape[2]})."
        )
    if min(shape[1:3]) < smallest:
        raise ValueError(
            f"images are {shape[1]}x{shape[2]}; this network needs {smallest} pixels a side, "
            "enlarge them."
        )


def export_target(path, *, suffix=None, own=()):
    """The path an export goes to, once it is sure that nothing of the user's is lost.

    Args:
        path: where the export goes. What is there already and is no export of this
            kind is refused, so that a forgotten file name costs nobody a folder.
        suffix: of an export that is a file, as ".onnx".
        own: what an export that is a folder consists of, first the file it is known by.
    """
    path = Path(path)
    if suffix and path.suffix != suffix:
        raise ValueError(f"{path}: the name must end in {suffix}.")
    if path.is_dir() and suffix:
        raise ValueError(f"{path} is a folder; give the name of a file in it.")
    if path.is_dir():
        others = sorted({entry.name for entry in path.iterdir()} - set(own))
        if others:
            raise ValueError(
                f"{path} holds other files, as {others[0]}; give a new folder, as {path}/pspnet."
            )
    if path.is_file() and own:
        raise ValueError(f"{path} is a file; this export is a folder, give another name.")
    return path


def in_batches(images, size):
    """Parts of a fixed size, for a graph that takes no other."""
    if len(images) % size:
        raise ValueError(
            f"{len(images)} images but this file was exported for batches of {size}; give a "
            "multiple, or export with batch_size=None."
        )
    return np.split(images, len(images) // size)
