"""Folders of numbered versions, 1, 2, 3 ..., that a server watches while they are written.

A complete version appears under its number in one step and never changes again. Until then it is
a hidden draft, ".draft-..." in the same folder; TensorFlow Serving only looks at numbers. Drafts
are workspaces of `keras_psp.files`: the next export removes those of killed processes.
"""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from keras_psp.files import OutputError, local_path, to_disk, workspace, writing

DRAFT = ".draft-"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER = re.compile(r"[0-9]{1,18}")


def model_folder(path: str | os.PathLike) -> Path:
    """Checks the folder of a model's versions, whose name is used in URLs and server files."""
    folder = local_path("folder", path)
    if not is_model_name(folder.name):
        raise ValueError(
            f"the model's name, {folder.name!r} in '{path}', must have 1 to 100 letters, digits, "
            "'-', '_' and '.', not only digits; give a folder such as saved_models/pspnet."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder of the model's versions.")
    if (folder / "saved_model.pb").exists():
        raise ValueError(
            f"{folder} is a SavedModel; give a folder for versions, e.g. {folder}-versions."
        )
    return folder


def is_model_name(name: str) -> bool:
    """Whether a model can have this name; a name of digits would be a version."""
    return bool(_NAME.fullmatch(name)) and not name.isdigit()


def versions(folder: str | os.PathLike) -> list[int]:
    """Numbers of the versions in a folder, ascending."""
    return sorted({int(name) for name in os.listdir(folder) if _NUMBER.fullmatch(name)})


def publish(folder: str | os.PathLike, write: Callable[[Path], None]) -> Path:
    """Writes the next version and returns its path; concurrent processes get other numbers.

    The folder is created if absent; `write` writes a version to a path that doesn't exist yet.
    """
    folder = model_folder(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with workspace(folder, DRAFT) as draft:
        version = draft / "version"
        with writing(folder):
            try:
                write(version)
            except OutputError as error:  # it names the draft; the folder's name is clearer
                raise (error.__cause__ or error) from None
            to_disk(version)
        return _moved(version, folder)


def _moved(version, folder):
    """Moves a version to the first free number."""
    number = max(versions(folder), default=0) + 1
    while True:
        target = folder / str(number)
        try:
            # Fails if the target exists, unless it is an empty folder.
            os.rename(version, target)
            break
        except OSError:
            if not os.path.lexists(target):
                raise
            number += 1  # another export was faster
    with contextlib.suppress(OSError):  # Windows
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return target
