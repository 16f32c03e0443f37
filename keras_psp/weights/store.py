"""Published files on this machine: fetched once, checked, never half there."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import keras

from keras_psp.files import put_in_place, try_lock
from keras_psp.weights.files import WeightsFileError, file_format

_INCOMPLETE, _LOCK = ".incomplete-", "lock"
_ABANDONED = 7 * 24 * 3600  # seconds


def folder() -> Path:
    """Where files are kept: keras_psp in Keras' own cache (~/.keras, or KERAS_HOME)."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "keras_psp"


def fetched(url: str) -> Path:
    """The file behind an address, from the cache or, with a progress bar, from the net.

    The name of a published file carries the first eight digits of its SHA-256; they
    are checked. KERAS_PSP_MIRROR names a server that stands in for the address' own.

    Raises:
        ConnectionError: if it can't be fetched; the sentence says which file to put where.
        WeightsFileError: if its content isn't what its name promises.
    """
    target = folder() / Path(urllib.parse.urlparse(url).path).name
    if target.exists():
        _verify(target, url)
        return target
    with workspace() as work:
        try:
            draft = Path(
                keras.utils.get_file(
                    target.name, _mirrored(url), cache_dir=str(work), cache_subdir="download"
                )
            )
        except Exception as error:  # Keras raises a bare Exception
            raise ConnectionError(
                f"can't fetch {_mirrored(url)} ({reason(error)}); download it elsewhere and put "
                f"it at {target}."
            ) from error
        try:
            _verify(draft, url)
        except WeightsFileError as error:  # the draft will be gone
            raise WeightsFileError(str(error).replace(str(draft), _mirrored(url))) from None
        put_in_place(draft, target)
    return target


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A folder in the cache for half-made files; what killed processes left goes first.

    Each holds a locked file as long as its process lives, on whatever machine.
    """
    store = folder()
    try:
        store.mkdir(parents=True, exist_ok=True)
        _sweep(store)
        new = Path(tempfile.mkdtemp(prefix=f"{_INCOMPLETE}new-", dir=store))
    except OSError as error:
        raise OSError(
            f"{store} can't be written ({error.strerror}); set KERAS_HOME to a folder that can."
        ) from error
    # It gets the name that others look for once it is locked.
    work = store / new.name.replace("new-", "")
    try:
        with (new / _LOCK).open("w") as lock:
            try_lock(lock)
            new.rename(work)
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def reason(error: Exception) -> str:
    """What went wrong, from Keras' "URL fetch failure on ...: ... -- ..."."""
    return re.split(r": | -- ", str(error))[-1]


def digest(url: str) -> str:
    """The SHA-256 digits at the end of a published file's name; "" if it has none."""
    match = re.search(r"-([0-9a-f]{8})\.\w+$", url)
    return match[1] if match else ""


def _mirrored(url):
    mirror = os.environ.get("KERAS_PSP_MIRROR")
    if not mirror:
        return url
    return mirror.rstrip("/") + urllib.parse.urlparse(url).path


def _verify(path, url):
    expected = digest(url)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found.startswith(expected):
        return
    file_format(path)  # says so if it is a web page or the like
    raise WeightsFileError(
        f"{path} has the SHA-256 {found[:8]}..., its name promises {expected}: it is damaged or "
        "another file; delete it and fetch it again."
    )


def _sweep(store):
    """Remove the folders whose processes no longer run."""
    for entry in store.glob(f"{_INCOMPLETE}*"):
        if _dead(entry) or _age(entry) > _ABANDONED:
            shutil.rmtree(entry, ignore_errors=True)


def _dead(entry):
    """Whether the process that made a folder is known to run no longer."""
    if entry.name.startswith(f"{_INCOMPLETE}new-"):  # just being made, not locked yet
        return False
    try:
        with (entry / _LOCK).open("r+") as lock:
            return try_lock(lock) is True  # without locks only age tells
    except OSError:  # removed by another
        return False


def _age(path):
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
