"""Files that are whole or absent."""

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

DRAFT_NAME = 40
"""Number of characters of a file's name that are part of its draft's name."""

ABANDONED = 7 * 24 * 3600
"""Age in seconds of an abandoned workspace where the file system has no locks."""

_DRAFT = re.compile(rf"\.(.{{1,{DRAFT_NAME}}})-\w{{8}}", re.DOTALL)

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


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[bool | None]:
    """Locks a file for this process without waiting, and creates it if needed.

    The lock is released after the block, or when the process ends or is killed.

    Yields:
        True if this process has the lock, False if another one has it, None if the file system
        has no locks.
    """
    import filelock

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

    It is locked, so that `remove_abandoned` can tell the workspace of a killed process from one
    in use. Abandoned ones are removed first.

    Args:
        folder: Existing folder for the workspace.
        prefix: Start of the workspace's name.
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
    """Removes the workspaces of killed processes.

    Without locks, only those older than `ABANDONED` seconds are removed.
    """
    for work in Path(folder).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # removed by another process
            old = time.time() - work.stat().st_mtime > ABANDONED
            if not (work / "lock").exists():  # perhaps just being created
                abandoned = old
            else:
                with locked(work / "lock") as has_lock:
                    abandoned = old if has_lock is None else has_lock
                    if abandoned:
                        shutil.rmtree(work, ignore_errors=True)
            if abandoned:  # Windows keeps open files
                shutil.rmtree(work, ignore_errors=True)


def remove_drafts(
    folder: str | os.PathLike, is_ours: Callable[[str], bool], *, recursive: bool = False
) -> None:
    """Removes what `written_aside` leaves in a folder when its process is killed.

    Args:
        folder: Folder of the files.
        is_ours: Whether drafts of the file with this name may be removed. Names are cut to
            `DRAFT_NAME` characters.
        recursive: Whether to look in subfolders as well.
    """
    for parent, names, _ in os.walk(os.fspath(folder)):  # tolerates folders that vanish, unlike rglob
        for name in names:
            match = _DRAFT.fullmatch(name)
            if match and is_ours(match[1]):
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
        if not recursive:
            break
