"""Files that are complete or absent, locks, and temporary folders."""

import contextlib
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

DRAFT_NAME = 40  # characters of a file's name that are part of its draft's name
ABANDONED = 7 * 24 * 3600  # age in seconds of an abandoned workspace if there are no locks

_DRAFT = re.compile(rf"\.(.{{1,{DRAFT_NAME}}})-\w{{8}}", re.DOTALL)

# RuntimeError: marked as encrypted, or another version of zip.
UNREADABLE_NPZ = (EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""Exceptions that NumPy raises for an .npz file that is damaged or lacks an array."""


def cache_folder() -> Path:
    """Returns the package's folder in Keras' own cache (~/.keras, or KERAS_HOME)."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras_psp"


def output_path(name: str, path: Any) -> Path:
    """Returns the path of an output with `~` expanded.

    Raises:
        TypeError: if it isn't a path.
        ValueError: if it is empty or an address such as gs://bucket/file.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"{name} is {path!r}; it must be a path.")
    text = os.fspath(path)
    if not text:
        raise ValueError(f"{name} is empty; give a path.")
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", text):
        raise ValueError(f"{name} is {text!r}, an address; give a local path and copy the result.")
    return Path(text).expanduser()


def printable(path: str | os.PathLike) -> str:
    r"""Returns a path as text for tables and messages; bytes that aren't UTF-8 become `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def csv_text(text: str) -> str:
    """Returns a text for a CSV file that no spreadsheet takes for a formula, e.g. `'=1+1`."""
    is_formula = text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if is_formula and not _is_number(text) else text


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path that replaces `path` once the block has succeeded.

    Readers see the complete old or new file or folder, even after a kill or on a full disk. The
    temporary path is in the same folder and has the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name may be the longest that the file system allows.
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name[:DRAFT_NAME]}-", dir=path.parent))
    old = beside / "old"
    try:
        aside = beside / f"new{path.suffix}"
        yield aside
        if path.is_dir() and aside.is_file():
            raise IsADirectoryError(
                f"{path} is a folder and is not replaced by a file; choose another name."
            )
        try:
            if path.is_dir():
                # A folder can't replace a folder that is not empty.
                os.replace(path, old)
            put_in_place(aside, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def put_in_place(draft: Path, path: Path) -> None:
    """Replaces `path` atomically by a finished draft on the same file system."""
    to_disk(draft)
    os.replace(draft, path)


# Errors of TensorFlow's file system.
_FILE_ERRORS = (
    *("FailedPreconditionError", "NotFoundError", "PermissionDeniedError"),
    *("ResourceExhaustedError", "UnavailableError", "UnknownError"),
)


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turns errors of a full or read-only disk into an OSError with a remedy."""
    try:
        yield
    except Exception as error:
        kind = type(error)
        tensorflow = kind.__module__.startswith("tensorflow") and kind.__name__ in _FILE_ERRORS
        if not isinstance(error, OSError) and not tensorflow:
            raise
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise OSError(
            f"{path} can't be written ({reason}); earlier results are complete. Free some space "
            "or grant write access, and run the same command again to resume."
        ) from error


def to_disk(path: str | os.PathLike) -> None:
    """Flushes a file, or a folder and its files, to disk, so that it survives a power cut."""
    if os.path.isdir(path):
        if os.name == "nt":  # Windows can't open folders
            return
        for entry in Path(path).iterdir():
            to_disk(entry)
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems can't
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[bool | None]:
    """Locks a file until the block or the process ends, without waiting.

    Yields True if this process has the lock, False if another one has it, None if the file
    system has no locks.
    """
    lock = filelock.FileLock(path, thread_local=False)
    has_lock: bool | None = True
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        has_lock = False
    except (OSError, NotImplementedError):
        has_lock = None
    try:
        yield has_lock
    finally:
        lock.release()


@contextlib.contextmanager
def workspace(folder: str | os.PathLike, prefix: str) -> Iterator[Path]:
    """Creates a temporary folder for files in progress, and removes it after the block.

    Workspaces of killed processes with the same prefix are removed first.
    """
    remove_abandoned(folder, prefix)
    while True:
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        try:
            with locked(work / "lock") as has_lock:
                # Another process may have removed it before it was locked.
                if has_lock is not False and work.exists():
                    yield work
                    return
        finally:
            shutil.rmtree(work, ignore_errors=True)


def remove_abandoned(folder: str | os.PathLike, prefix: str) -> None:
    """Removes the workspaces of killed processes; without locks, those older than `ABANDONED`."""
    for work in Path(folder).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # removed by another process
            old = time.time() - work.stat().st_mtime > ABANDONED
            with locked(work / "lock") as has_lock:
                abandoned = has_lock or (has_lock is None and old)
                if abandoned:
                    shutil.rmtree(work, ignore_errors=True)
            if abandoned:  # Windows can't remove the lock while it is open
                work.rmdir()


def remove_drafts(
    folder: str | os.PathLike, is_ours: Callable[[str], bool], *, recursive: bool = False
) -> None:
    """Removes what `written_aside` leaves in a folder when its process is killed.

    `is_ours` returns whether drafts of a file may be removed, given its name, which is cut to
    `DRAFT_NAME` characters.
    """
    for parent, names, _ in os.walk(os.fspath(folder)):  # unlike rglob, if a folder vanishes
        for name in names:
            match = _DRAFT.fullmatch(name)
            if match and is_ours(match[1]):
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
        if not recursive:
            break
