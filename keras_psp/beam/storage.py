"""Reading and writing where Apache Beam's file systems reach: local, gs://, s3://, hdfs://."""

import os
import re
import shutil
import uuid

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from keras_psp.files import DRAFT_NAME, written_aside

# There an object appears once it is complete, and a rename would be a copy.
_OBJECT_STORES = ("gs", "s3", "azfs")


def absolute(path: str | os.PathLike) -> str:
    """A path or address that means the same to every process."""
    text = os.fspath(path)
    return text if FileSystems.get_scheme(text) else os.path.abspath(os.path.expanduser(text))


def read_bytes(path: str) -> bytes:
    """The whole file.

    Raises:
        ValueError: where it can't be read.
    """
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read()
    except Exception as error:  # each file system has errors of its own
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise ValueError(f"{path}: can't be read ({reason}); look for the file again.") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a file that is whole or absent at any moment, its folders where they lack."""
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
    """Paths that match a pattern, `**` also across folders; no drafts of a killed writer."""
    found = FileSystems.match([pattern])[0].metadata_list
    return [file.path for file in found if not is_draft(file.path)]


def is_draft(path: str) -> bool:
    """Whether the path is one that `write_bytes` gives before the file is complete."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return name.startswith(".") or folder.rpartition("/")[2].startswith(".")


def sweep(folder: str) -> None:
    """Remove the drafts that a killed process left in a local folder."""
    if FileSystems.get_scheme(folder) is not None:
        return
    # Of a long name its suffix is cut off.
    draft = re.compile(rf"\.(.{{{DRAFT_NAME}}}|.+\.(png|tfrecord|jsonl?|npy))-\w{{8}}", re.DOTALL)
    for parent, inner, _ in os.walk(folder):  # unlike rglob it bears folders that vanish
        for name in inner:
            if draft.fullmatch(name):
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
