"""Folders of numbered versions, 1, 2, 3 ..., that a server watches while they are written.

A version appears under its number in one step, whole, and is never written again. Until then it
is in a hidden draft, ".draft-..." in the same folder; TensorFlow Serving looks at numbers only.
Drafts are workspaces of `keras_psp.files`: the next export removes those of killed processes.
"""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from keras_psp.files import to_disk, workspace, writing

DRAFT = ".draft-"
"""So the names of drafts begin."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER = re.compile(r"[0-9]{1,18}")


def model_folder(path: str | os.PathLike) -> Path:
    """The folder of a model's versions, its name fit for addresses and server files.

    Raises:
        ValueError: the name has other characters than these, or it's no place for versions.
    """
    text = os.fspath(path)
    if "://" in text:
        raise ValueError(
            f"{text} is no local folder, and only there a version appears in one step; export to "
            "a local folder and copy its versions."
        )
    folder = Path(text)
    if not is_model_name(folder.name):
        raise ValueError(
            f"the model's name, {folder.name!r} of {text!r}, must be letters, digits, '-', '_' and "
            "'.', 100 at most, not all of them digits; give a folder as saved_models/pspnet."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder of the model's versions.")
    if (folder / "saved_model.pb").exists():
        raise ValueError(
            f"{folder} is a SavedModel itself; give a folder for versions, as {folder}-versions."
        )
    return folder


def is_model_name(name: str) -> bool:
    """Whether it can be a model's name; only digits would be a version."""
    return bool(_NAME.fullmatch(name)) and not name.isdigit()


def versions(folder: str | os.PathLike) -> list[int]:
    """Numbers of the versions in a folder, ascending."""
    return sorted({int(name) for name in os.listdir(folder) if _NUMBER.fullmatch(name)})


def publish(folder: str | os.PathLike, write: Callable[[Path], None]) -> Path:
    """Write the next version.

    Several processes may do so at once; each gets a number of its own.

    Args:
        folder: of the versions; made if it's absent.
        write: makes the folder at the path that it is given.

    Returns:
        the path of the version.
    """
    folder = model_folder(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with workspace(folder, DRAFT) as draft:
        written = draft / "version"
        with writing(folder):
            write(written)
            to_disk(written)
        return _moved(written, folder)


def _moved(written, folder):
    number = max(versions(folder), default=0) + 1
    while True:
        target = folder / str(number)
        try:
            # A folder takes no other's place, unless that is empty.
            os.rename(written, target)
        except OSError:
            if not os.path.lexists(target):
                raise
            number += 1  # another export was faster
        else:
            with contextlib.suppress(OSError):  # Windows
                _name_to_disk(folder)
            return target


def _name_to_disk(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
