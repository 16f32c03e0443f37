"""What all exporters share: their requirements, a safe target and a test run."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.export.graph import Signature, class_dtype
from keras_psp.files import written_aside
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet


def required(module: str, purpose: str, extra: str) -> Any:
    """Imports an optional module; the error says what it is for and which extra installs it."""
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


def export_target(
    path: str | os.PathLike, *, suffix: str | None = None, files: Sequence[str] = ()
) -> Path:
    """Checks that an export at this path overwrites nothing but another export.

    Args:
        path: where the export goes.
        suffix: of an export that is a file, e.g. ".onnx".
        files: what an export that is a folder consists of.
    """
    path = Path(path)
    if suffix and path.suffix != suffix:
        raise ValueError(f"{path}: the name must end in {suffix}.")
    if path.is_dir() and suffix:
        raise ValueError(f"{path} is a folder; give the name of a file in it.")
    if path.is_dir():
        others = sorted({entry.name for entry in path.iterdir()} - set(files))
        if others:
            raise ValueError(
                f"{path} contains other files, e.g. {others[0]}; give a new folder, e.g. "
                f"{path}/pspnet."
            )
    if path.is_file() and files:
        raise ValueError(f"{path} is a file but this export is a folder; give another name.")
    return path


@contextlib.contextmanager
def checked_export(
    target: Path,
    kind: str,
    opener: Callable[[Path], Callable],
    model: PSPNet,
    signature: Signature,
    progress: bool = False,
) -> Iterator[Path]:
    """Yields a temporary path; what is written there replaces `target` once it has run.

    Args:
        target: where the export goes.
        kind: what it is called in errors, e.g. "ONNX file".
        opener: opens it, e.g. `open_onnx`.
        model, signature: what was exported.
        progress: report the test run on stderr.
    """
    with written_aside(target) as draft:
        yield draft
        if progress:
            print(f"{target.name}: running it once", file=sys.stderr)
        _check_output(kind, lambda: opener(draft), model, signature)


def _check_output(kind, opened, model, signature):
    """Refuses an export that doesn't run, or whose output isn't what the signature says."""
    side = smallest_side(model)
    size = signature.image_size or (side + 8, side + 16)
    noise = np.random.default_rng(0).integers(0, 256, (signature.batch_size or 1, *size, 3))
    try:
        output = opened()(noise.astype(signature.input_dtype))
    except Exception as error:  # each runtime has its own exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeError(
            f"the {kind} was converted but doesn't run ({reason}); nothing was written. Please "
            "report it with the network's arguments."
        ) from error
    shape, dtype = noise.shape[:3], class_dtype(model.num_classes)
    if signature.output != "classes":
        shape, dtype = (*shape, model.num_classes), "float32"
    if output.shape != shape or output.dtype != dtype or not np.isfinite(output).all():
        raise RuntimeError(
            f"the {kind} returns {output.dtype} {output.shape} instead of finite {dtype} {shape}; "
            "nothing was written. Check the magnitude of the network's weights."
        )
