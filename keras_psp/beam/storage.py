"""Reads and writes files on Apache Beam's file systems: local, gs://, s3://, hdfs://."""

import os
import uuid

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from keras_psp.files import DRAFT_NAME, remove_drafts, written_aside

# An object appears there only once it is complete, and a rename would be a copy.
_OBJECT_STORES = ("gs", "s3", "azfs")
_SUFFIXES = (".png", ".tfrecord", ".json", ".jsonl", ".npy")


def absolute(path: str | os.PathLike) -> str:
    """Returns an absolute path or URL, which is the same file for every process."""
    text = os.fspath(path)
    return text if FileSystems.get_scheme(text) else os.path.abspath(os.path.expanduser(text))


def read_bytes(path: str) -> bytes:
    """Reads a whole file, or raises a ValueError."""
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read()
    except Exception as error:  # each file system raises other types
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise ValueError(f"{path}: can't be read ({reason}); check the path.") from error


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file that at any moment is complete or absent, and creates its folders."""
    scheme = FileSystems.get_scheme(path)
    if scheme is None:
        with written_aside(path) as draft:
            draft.write_bytes(data)
        return
    draft_path = path
    if scheme not in _OBJECT_STORES:
        folder, name = path.rsplit("/", 1)
        draft_path = f"{folder}/.{name[:DRAFT_NAME]}-{uuid.uuid4().hex}"
    with FileSystems.create(draft_path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(data)
    if draft_path != path:
        if FileSystems.exists(path):
            FileSystems.delete([path])
        FileSystems.rename([draft_path], [path])


def matches(pattern: str) -> list[str]:
    """Returns the paths that match a pattern, without unfinished files of `write_bytes`."""
    files = FileSystems.match([pattern])[0].metadata_list
    return [file.path for file in files if not is_draft(file.path)]


def is_draft(path: str) -> bool:
    """Returns whether `write_bytes` uses this path before a file is complete."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return name.startswith(".") or folder.rpartition("/")[2].startswith(".")


def sweep(folder: str) -> None:
    """Removes the unfinished files of killed processes from a local folder."""
    if FileSystems.get_scheme(folder) is not None:
        return
    remove_drafts(
        folder,
        # The suffix of a long name is cut off.
        lambda name: len(name) == DRAFT_NAME or name.endswith(_SUFFIXES),
        recursive=True,
    )
