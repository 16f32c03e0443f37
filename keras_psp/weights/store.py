"""A cache of published files, which are fetched once, verified, and complete or absent."""

import contextlib
import hashlib
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from keras_psp import files
from keras_psp.weights.files import WeightsFileError, file_format


def folder() -> Path:
    """Returns the cache's folder, see `keras_psp.files.cache_folder`."""
    return files.cache_folder()


def fetch(url: str) -> Path:
    """Returns a published file from the cache, downloading it first if needed.

    The name of a published file ends in the first eight digits of its SHA-256, which are
    verified. KERAS_PSP_MIRROR names a server to use instead of the URL's own.
    """
    path = urllib.parse.urlparse(url).path
    target = folder() / Path(path).name
    if target.exists():
        _verify(target, url)
        return target
    mirror = os.environ.get("KERAS_PSP_MIRROR", "")
    source = mirror.rstrip("/") + path if mirror else url
    import keras

    with workspace() as work:
        try:
            with bars_on_stderr():
                draft = keras.utils.get_file(
                    target.name, source, cache_dir=str(work), cache_subdir="download"
                )
        except Exception as error:  # Keras raises a bare Exception
            raise ConnectionError(
                f"can't fetch {source} ({reason(error)}); download it elsewhere and put "
                f"it at {target}."
            ) from error
        try:
            _verify(Path(draft), url)
        except WeightsFileError as error:  # the draft is deleted
            raise WeightsFileError(str(error).replace(draft, source)) from None
        files.put_in_place(Path(draft), target)
    return target


def bars_on_stderr() -> contextlib.AbstractContextManager:
    """Moves the bars of Keras' downloads from stdout, which is for results."""
    return contextlib.redirect_stdout(sys.stderr)


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Creates a temporary folder in the cache for incomplete files, see `keras_psp.files`."""
    store = folder()
    with contextlib.ExitStack() as stack:
        try:
            store.mkdir(parents=True, exist_ok=True)
            work = stack.enter_context(files.workspace(store, ".incomplete-"))
        except OSError as error:
            raise OSError(
                f"{store} can't be written ({error.strerror}); set KERAS_HOME to a folder that can."
            ) from error
        yield work


def reason(error: Exception) -> str:
    """Returns the reason in Keras' message "URL fetch failure on ...: ... -- ..."."""
    return re.split(r": | -- ", str(error))[-1]


def digest(url: str) -> str:
    """Returns the SHA-256 digits at the end of a published file's name, or ""."""
    match = re.search(r"-([0-9a-f]{8})\.\w+$", url)
    return match[1] if match else ""


def _verify(path, url):
    expected = digest(url)
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual.startswith(expected):
        return
    file_format(path)  # raises a better error for a web page
    raise WeightsFileError(
        f"{path} has the SHA-256 {actual[:8]}... instead of {expected} in its name: it is damaged "
        "or another file; delete it and fetch it again."
    )
