"""Paths that users give, files that are complete or absent, locks, and temporary folders."""

import contextlib
import errno
import glob
import hashlib
import io
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np

DRAFT_NAME = 40  # characters of a file's name that are part of its draft's name
ABANDONED = 7 * 24 * 3600  # age in seconds of an abandoned workspace if there are no locks

_DRAFT = re.compile(rf"\.(.{{1,{DRAFT_NAME}}})-\w{{8}}", re.DOTALL)

# Two letters or more, since one is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
OF_THE_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini", "lost+found")
"""Entries of a folder that belong to the system: its file manager's or its file system's."""


def cache_folder() -> Path:
    """Returns the package's folder in Keras' own cache (~/.keras, or KERAS_HOME)."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras_psp"


def local_path(name: str, path: Any) -> Path:
    """Returns a path that a user gave, with `~` expanded; `name` is what messages call it.

    Raises:
        TypeError: if it isn't a path.
        ValueError: if it is empty, an address such as gs://bucket/file, or in the home folder of
            an unknown user.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"{name} is {path!r}; it must be a path.")
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ValueError(f"{name} is {'empty' if not text else repr(text)}; give a path.")
    if _ADDRESS.match(text):
        address = re.sub(":/+", "://", text, count=1)  # `Path` keeps one slash
        raise ValueError(
            f"{name} is {address!r}, an address; give a local path, and copy the files there or "
            "back."
        )
    expanded = Path(os.path.expanduser(text))
    home = expanded.parts[0] if expanded.parts else ""
    if home.startswith("~") and not os.path.exists(home):
        raise ValueError(f"{name} is {text!r}, but there is no user {home[1:]!r}; give a path.")
    return expanded


def checked_name(name: str, remedy: str) -> str:
    """Returns the name of a file or folder that a user gave; raises ValueError for a path."""
    if name in ("", ".", "..") or set(name) & set("/\\\0") or _ADDRESS.match(name):
        raise ValueError(f"{name!r} is a path, not a name; {remedy}.")
    return name


def claim(folder: Path, mark: str | Iterable[str], *, contents: str) -> None:
    """Checks that a folder may be written to, creates it, and removes abandoned drafts in it.

    It must be absent, empty, or contain one of the files called `mark`, by which earlier results
    are recognized. Hidden files don't count.

    Args:
        folder: a local folder.
        mark: name or names of a file that these results always have.
        contents: what messages call the results, e.g. "run".

    Raises:
        ValueError: if it is a file or contains something else, or a link in it leads outside.
        OSError: if it can't be created.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; the output must be a folder.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(folder.iterdir())
    marks = (mark,) if isinstance(mark, str) else tuple(mark)
    others = [entry.name for entry in entries if not is_hidden(entry.name)]
    if others and not any((folder / name).is_file() for name in marks):
        raise ValueError(
            f"{folder} is not empty ({others[0]}) and contains no {contents}; choose another "
            "--output."
        )
    for entry in entries:
        if entry.is_symlink() and folder.resolve() not in entry.resolve().parents:
            raise ValueError(
                f"{entry} is a link to {os.readlink(entry)}, outside of the output; remove the "
                "link, or choose another --output."
            )
    remove_drafts(folder, lambda name: True, recursive=True)


def is_hidden(name: str) -> bool:
    """Whether an entry of a folder isn't a result: it is hidden, or of the system."""
    return name.startswith(".") or name in OF_THE_SYSTEM


def printable(path: str | os.PathLike) -> str:
    r"""Returns a path as text for tables and messages; bytes that aren't UTF-8 become `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def csv_text(text: str) -> str:
    """Returns a text for a CSV file that spreadsheets don't take for a formula, e.g. `'=1+1`."""
    is_formula = text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if is_formula and not _is_number(text) else text


def plain_text(text: str) -> str:
    """Returns the original of a text returned by `csv_text`."""
    return text[1:] if text.startswith("'") and csv_text(text[1:]) == text else text


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


class OutputError(OSError):
    """Raised if a file can't be written; the message is a sentence with a remedy."""


# Errors of TensorFlow's file system.
_FILE_ERRORS = (
    *("FailedPreconditionError", "NotFoundError", "PermissionDeniedError"),
    *("ResourceExhaustedError", "UnavailableError", "UnknownError"),
)
# Errors that only outputs have.
_OF_OUTPUTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def _is_of_files(error):
    kind = type(error)
    tensorflow = kind.__module__.startswith("tensorflow") and kind.__name__ in _FILE_ERRORS
    return isinstance(error, OSError) or tensorflow


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turns errors of a full or read-only disk into an `OutputError` with a remedy."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutputError) or not _is_of_files(error):
            raise
        raise _output_error(path, error) from error


def _output_error(path, error):
    for folder in Path(path).parents:
        if folder.is_file():
            return OutputError(
                f"{path} can't be written: {folder} is a file, not a folder; choose another output."
            )
    text = str(error).split("\n")[0]
    # h5py and TensorFlow wrap the reason in details.
    known = [os.strerror(number) for number in _OF_OUTPUTS if os.strerror(number) in text]
    reason = getattr(error, "strerror", None) or (known or [text])[0]
    output_error = OutputError(
        f"{path} can't be written ({reason}); earlier results are complete. Free some space "
        "or grant write access, and run the same command again to resume."
    )
    output_error.errno = getattr(error, "errno", None)
    return output_error


@contextlib.contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path that replaces `path` once the block has succeeded.

    Readers see the complete old or new file or folder, even if the process is killed or the disk
    is full. The temporary path has the same suffix and is in the same folder. The exception is an
    existing folder that can't be replaced, because it is a mounted volume or the current folder:
    the temporary path is then inside it, and entries of the same names are replaced one by one.

    Raises:
        ValueError: if the path is an address.
        OutputError: if it can't be written; immediately if its folder can't be written to.
    """
    path = local_path("path", path)
    if path.name in ("", ".."):  # "." or "/"
        path = Path(os.path.abspath(path))
    with contextlib.ExitStack() as stack:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = stack.enter_context(_draft_folder(path))
        aside = beside / f"new{path.suffix}"
        try:
            yield aside
        except Exception as error:
            if not _is_about(error, beside):
                raise
            raise _output_error(path, error) from error
        if path.is_dir() and aside.is_file():
            raise IsADirectoryError(
                f"{path} is a folder and is not replaced by a file; choose another name."
            )
        with writing(path):
            _replace(path, aside, beside / "old")


def _is_about(error, folder):
    """Whether an error is about writing into a folder, not about reading another file."""
    if isinstance(error, OutputError) or not _is_of_files(error):
        return False
    names = [getattr(error, name, None) for name in ("filename", "filename2")]
    if names == [None, None]:  # of an open file; h5py and TensorFlow only have a text
        full = getattr(error, "errno", None) in _OF_OUTPUTS
        return full or any(os.strerror(number) in str(error) for number in _OF_OUTPUTS)
    return any(isinstance(name, str) and name.startswith(os.fspath(folder)) for name in names)


@contextlib.contextmanager
def _draft_folder(path):
    """Creates the temporary folder of `written_aside`, in use until the block ends."""
    # The name may be the longest that the file system allows.
    prefix = f".{path.name[:DRAFT_NAME]}-"
    places = [path.parent]
    if path.is_dir():
        places = [path] if _is_immovable(path) else [path.parent, path]
    for place in places:
        try:
            stack = contextlib.ExitStack()
            folder = stack.enter_context(_locked_folder(place, prefix))
            break
        except OSError:
            if place == places[-1]:
                raise
    with stack:
        yield folder


def _is_immovable(folder):
    """Whether a folder can't be renamed: it is mounted, or processes work in it."""
    with contextlib.suppress(FileNotFoundError):  # the current folder was removed
        if Path.cwd().is_relative_to(folder.resolve()):
            return True
    return os.path.ismount(folder)


# Errors of `os.replace` for what is mounted; `ismount` misses folders of the same file system.
_MOUNTED = (errno.EBUSY, errno.EXDEV)


def _replace(path, aside, old):
    """Replaces a file or folder by a finished draft."""
    if not path.is_dir():
        try:
            put_in_place(aside, path)
        except OSError as error:
            if error.errno not in _MOUNTED or not path.is_file():
                raise
            shutil.copyfile(aside, path)
            to_disk(path)
        return
    if aside.parent.parent == path:
        _replace_entries(path, aside, old)
        return
    try:
        # A folder can't replace a folder that is not empty.
        os.replace(path, old)
    except OSError as error:
        if error.errno not in _MOUNTED:
            raise
        with _locked_folder(path, f".{path.name[:DRAFT_NAME]}-") as beside:
            shutil.copytree(aside, beside / "new")
            _replace_entries(path, beside / "new", beside / "old")
        return
    try:
        put_in_place(aside, path)
    except BaseException:
        os.replace(old, path)
        raise


def _replace_entries(path, aside, old):
    """Replaces the entries of a folder that a draft has, and removes no others."""
    to_disk(aside)
    old.mkdir()
    moved = []
    try:
        for entry in sorted(aside.iterdir()):
            target = path / entry.name
            if os.path.lexists(target):
                os.replace(target, old / entry.name)
            os.replace(entry, target)
            moved.append(target)
    except BaseException:
        for target in moved:
            os.replace(target, aside / target.name)
        for entry in old.iterdir():
            os.replace(entry, path / entry.name)
        raise


def put_in_place(draft: Path, path: Path) -> None:
    """Replaces `path` atomically by a finished draft on the same file system."""
    to_disk(draft)
    os.replace(draft, path)


def to_disk(path: str | os.PathLike) -> None:
    """Flushes a file, or a folder and its files, to disk, so that it survives a power failure."""
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
    with _locked_folder(folder, prefix) as work:
        yield work


@contextlib.contextmanager
def _locked_folder(folder, prefix):
    """Creates a temporary folder, locked by this process and removed after the block."""
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
    for work in Path(folder).glob(f"{glob.escape(prefix)}*"):
        _remove_if_abandoned(work)


def _remove_if_abandoned(work):
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

    Drafts of running processes are kept. `is_ours` returns whether drafts of a file may be
    removed, given its name, which is cut to `DRAFT_NAME` characters.
    """
    for parent, names, _ in os.walk(os.fspath(folder)):  # unlike rglob, if a folder vanishes
        for name in names:
            match = _DRAFT.fullmatch(name)
            work = Path(parent, name)
            if match and is_ours(match[1]) and _is_draft(work):
                _remove_if_abandoned(work)
        if not recursive:
            break


def sweep(path: Path) -> None:
    """Removes what killed processes left of a file or folder that is about to be written."""
    path = Path(os.path.abspath(path))
    for folder in (path.parent, path):
        if folder.is_dir():
            remove_drafts(folder, path.name[:DRAFT_NAME].__eq__)


def _is_draft(work):
    """Whether a folder contains nothing but what `written_aside` creates."""
    try:
        names = {Path(entry).stem for entry in os.listdir(work)}
    except OSError:
        return False
    return names <= {"lock", "new", "old"} and not work.is_symlink()


def file_digest(path: str | os.PathLike) -> str:
    """Returns 32 hexadecimal digits that identify a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def file_checksum(path: str | os.PathLike) -> int:
    """Returns the CRC-32 of a file's content."""
    crc = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            crc = zlib.crc32(part, crc)
    return crc


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file, and checks their checksums.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged; the message is the reason.
    """
    arrays = {}
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                for name in names:
                    # `np.load` skips the checksum of an array whose header is damaged.
                    content = io.BytesIO(archive.read(name))
                    arrays[name.removesuffix(".npy")] = np.lib.format.read_array(content)
            # A damaged length hides the entry that follows; the record at the end has their number.
            file.seek(-22, os.SEEK_END)
            if int.from_bytes(file.read()[10:12], "little") != len(names):
                raise ValueError("an array is missing")
        except Exception as error:  # a damaged archive can raise anything
            raise ValueError(str(error).split("\n")[0] or type(error).__name__) from error
    return arrays


def damage_in_zip(path: str | os.PathLike) -> str:
    """Returns what is wrong with a zip archive such as a .keras file, or "" if nothing is."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
    except Exception as error:  # a damaged archive can raise anything
        return str(error).split("\n")[0] or type(error).__name__
    return "" if name is None else f"wrong checksum of {name}"
