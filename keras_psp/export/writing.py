"""Shared by all exporters: requirements, a safe target and a test run."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.export.graph import Signature, check_network
from keras_psp.files import OF_THE_SYSTEM, local_path, sweep, written_aside
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

_FILE_SUFFIXES = (".bin", ".h5", ".keras", ".onnx", ".pb", ".tflite", ".xml", ".zip")
"""Suffixes of names that are meant for a file."""


def required(module: str, purpose: str, extra: str) -> Any:
    """Imports an optional module; the error names its purpose and the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{purpose} {module.partition(".")[0]}: pip install "keras-psp[{extra}]"'
        ) from error


def require_tensorflow_backend(target: str) -> None:
    """Raises a RuntimeError unless Keras runs on TensorFlow, which traces the model."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"{target} is written by TensorFlow but Keras runs on {backend}; save the model "
            "as .keras and export it in a process with KERAS_BACKEND=tensorflow."
        )
    import tensorflow as tf

    if tf.distribute.has_strategy():
        raise RuntimeError(
            f"{target} can't be written inside strategy.scope(); export after the `with` block."
        )


def _check_target(path, suffix, files):
    """Checks that an export to this path overwrites nothing but another export."""
    if suffix and path.suffix != suffix:
        raise ValueError(f"path is '{path}'; the name must end in {suffix}.")
    if files and path.suffix in _FILE_SUFFIXES:
        raise ValueError(f"path is '{path}' but this export is a folder; leave out {path.suffix}.")
    if path.is_dir():
        if suffix:
            raise ValueError(f"{path} is a folder; give the name of a file in it.")
        if others := sorted({entry.name for entry in path.iterdir()} - {*files, *OF_THE_SYSTEM}):
            raise ValueError(
                f"{path} contains other files, e.g. {others[0]}; give a new folder, e.g. "
                f"{path}/pspnet."
            )
    if path.is_file() and files:
        raise ValueError(f"{path} is a file but this export is a folder; give another name.")


@contextlib.contextmanager
def checked_export(
    path: str | os.PathLike,
    kind: str,
    opener: Callable[[Path], Callable],
    model: PSPNet,
    signature: Signature,
    *,
    suffix: str | None = None,
    files: Sequence[str] = (),
    progress: bool = False,
) -> Iterator[Path]:
    """Checks the network and the path, and yields a draft that replaces it once it has run.

    The export is a file with this suffix, or a folder of these files. Errors call it by its
    `kind`, e.g. "ONNX file"; `opener` is e.g. `open_onnx`.
    """
    check_network(model, signature)
    path = local_path("path", path)
    sweep(path)
    _check_target(path, suffix, files)
    with written_aside(path) as draft:
        yield draft
        if progress:
            print(f"{path.name}: running it once", file=sys.stderr)
        _check_output(draft, kind, opener, model, signature)


def _check_output(draft, kind, opener, model, signature):
    """Refuses an export that doesn't run, or whose output doesn't match the signature."""
    side = smallest_side(model)
    size = signature.image_size or (side + 8, side + 16)
    try:
        shape = (signature.batch_size or 1, *size, signature.channels)
        noise = np.random.default_rng(0).integers(0, 256, shape)
        output = opener(draft)(noise.astype(signature.input_dtype))
    except MemoryError as error:
        raise ValueError(
            f"batch_size={signature.batch_size} and image_size={signature.image_size} don't fit "
            "into memory; nothing was written. Export for smaller batches or images."
        ) from error
    except Exception as error:  # each runtime has its own exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeError(
            f"the {kind} was converted but doesn't run ({reason}); nothing was written. Please "
            "report it with the network's arguments."
        ) from error
    shape, dtype = noise.shape[:3], signature.output_dtype(model.num_classes)
    if signature.output != "classes":
        shape += (model.num_classes,)
    if output.shape != shape or output.dtype != dtype or not np.isfinite(output).all():
        raise RuntimeError(
            f"the {kind} returns {output.dtype} {output.shape} instead of finite {dtype} {shape}; "
            "nothing was written. Check the magnitude of the network's weights."
        )
