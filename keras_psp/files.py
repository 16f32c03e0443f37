"""Files that are whole or absent."""

import contextlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

DRAFT_NAME = 40
"""So many characters of a path's name begin its draft's, between "." and "-"."""

UNREADABLE_NPZ = (
    EOFError,
    KeyError,
    RuntimeError,  # a bit that says "encrypted", or another version of zip
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises for a damaged .npz file, or one that lacks an array."""


@contextlib.contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place once the block has succeeded.

    Readers see the old file or folder or the new one, never half of one, even after a
    kill or a full disk. The temporary path has the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name as long as the file system takes leaves no room for more.
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name[:DRAFT_NAME]}-", dir=path.parent))
    old = beside / "old"
    try:
        aside = beside / f"new{path.suffix}"
        yield aside
        if path.is_dir() and aside.is_file():
            raise IsADirectoryError(
                f"{path} is a folder; no file takes its place. Give another name."
            )
        try:
            if path.is_dir():
                # A folder cannot replace a full folder in one step.
                os.replace(path, old)
            put_in_place(aside, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def put_in_place(draft: Path, path: Path) -> None:
    """Let a finished draft take the place of `path`, on the same file system, in one step."""
    to_disk(draft)
    os.replace(draft, path)


# Of TensorFlow's errors; its others are about what it computes.
_OF_FILES = (
    "FailedPreconditionError",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnavailableError",
    "UnknownError",
)


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turn what a full or read-only disk brings about into one sentence with a remedy."""
    try:
        yield
    except Exception as error:
        # TensorFlow's file system has errors of its own.
        theirs = type(error).__module__.startswith("tensorflow")
        if not isinstance(error, OSError) and not (theirs and type(error).__name__ in _OF_FILES):
            raise
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise OSError(
            f"{path} can't be written ({reason}); what was written before is whole. Make "
            "room or give write access, and start the same command again to go on."
        ) from error


def to_disk(path: str | os.PathLike) -> None:
    """After a power cut the name of a file, or folder with all in it, must not stand for less."""
    if os.path.isdir(path):
        if os.name == "nt":  # which has no handles of folders
            return
        for entry in Path(path).iterdir():
            to_disk(entry)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # file systems that can't
        pass
    finally:
        os.close(handle)


def try_lock(file: IO) -> bool | None:
    """Lock an open file for this process, until the file is closed or the process ends.

    Returns:
        True: it's ours. False: another has it. None: there are no locks here (Windows, some
        file systems).
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
