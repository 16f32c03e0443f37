"""Reads weights files of every format, recognized by their first bytes; runs no code in them."""

import dataclasses
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_psp.weights.files.caffe_file import read_caffe
from keras_psp.weights.files.errors import WeightsFileError, naming, printable
from keras_psp.weights.files.keras_file import read_h5, read_npz
from keras_psp.weights.files.mxnet_file import MAGIC as MXNET_MAGIC
from keras_psp.weights.files.mxnet_file import read_mxnet
from keras_psp.weights.files.torch_file import TorchTensor, read_torch

__all__ = ["Checkpoint", "WeightsFileError", "file_format", "read_checkpoint"]

# Where training checkpoints have the weights; some have averages of them as well.
_STATE_DICTS = ("state_dict", "model", "model_state_dict", "state_dict_ema")
# What DataParallel, DistributedDataParallel and torch.compile add to all names, in any order.
_WRAPPERS = re.compile(r"((module|_orig_mod)\.)*")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The tensors and metadata of a weights file.

    Attributes:
        path: the file.
        format: "torch", "safetensors", "mxnet", "caffe", "npz" or "h5".
        tensors: by name; `numpy.asarray` reads one.
        meta: the other contents of a torch checkpoint.

    Example:
        checkpoint = read_checkpoint("resnet50.pth")
        kernel = numpy.asarray(checkpoint.tensors["conv1.weight"])
    """

    path: Path
    format: str
    tensors: Mapping[str, Any]
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def file_format(path: str | Path) -> str:
    """Returns the format of a weights file: one of `Checkpoint.format`, or "keras"."""
    path = Path(path)
    if path.is_dir():
        raise WeightsFileError(f"{path} is a folder; pass the weights file in it.")
    if not path.exists():
        raise FileNotFoundError(f"{path} doesn't exist; pass the path of a weights file.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise WeightsFileError(f"{path} is empty; download it again.")
    if head.lstrip()[:5].lower().startswith((b"<!", b"<?", b"<html", b"<head", b"<body")):
        raise WeightsFileError(
            f"{path} is a web page, not weights: the server answered with an error or login page; "
            "download it again in a browser."
        )
    if head.startswith(b"version https://git-lfs"):
        raise WeightsFileError(
            f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` where it came from."
        )
    if head.startswith(b"\x89HDF"):
        return "h5"
    if head.startswith(b"PK"):
        return _archive_format(path)
    if len(head) >= 9:
        number = struct.unpack("<Q", head[:8])[0]
        if number == MXNET_MAGIC:
            return "mxnet"
        if head[8:9] == b"{" and 0 < number <= path.stat().st_size - 8:
            return "safetensors"
    if head[:1] == b"\x80":
        return "torch"
    if head.startswith((b"\x0a", b"\x12", b"\xa2\x06")):  # a NetParameter's name or first layer
        return "caffe"
    raise WeightsFileError(
        f"{path} isn't a weights file of a supported format: PyTorch, safetensors, MXNet, Caffe, "
        "Keras or NumPy."
    )


def _archive_format(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # a damaged archive can raise anything
        raise WeightsFileError(
            f"{path} begins like a PyTorch or Keras file but is truncated; download it again."
        ) from error
    if "config.json" in names and "metadata.json" in names:
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "torch"


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads the tensors of a weights file; large ones are read from disk when used.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsFileError: if the file is damaged, unsafe or of an unknown format.
    """
    path = Path(path)
    kind = file_format(path)
    if kind == "keras":
        raise WeightsFileError(
            f"{path} is a .keras file, which holds a whole model; open it with "
            f"keras_psp.PSPNet(weights={str(path)!r})."
        )
    meta: Mapping[str, Any] = {}
    with naming(path):
        tensors = _READERS[kind](path)
        if kind == "torch":
            tensors, meta = _state_dict(tensors)
    if not tensors:
        raise WeightsFileError(f"{path} contains no tensors.")
    return Checkpoint(path, kind, tensors, meta)


def _state_dict(content):
    """Splits the object passed to torch.save into its tensors by name, and the rest."""
    if not isinstance(content, dict):
        raise WeightsFileError(
            "it contains no state dict; save model.state_dict() and convert that."
        )
    tensors, meta = _tensors(content), {}
    inner = [key for key, value in content.items() if isinstance(value, dict) and _tensors(value)]
    known = [key for key in _STATE_DICTS if key in inner]
    if known or (inner and not tensors):
        if not known and len(inner) > 1:
            raise WeightsFileError(
                f"it contains several state dicts, {printable(', '.join(map(str, inner)))}; save "
                "the network's alone and convert that."
            )
        key = (known or inner)[0]
        tensors = _tensors(content[key])
        meta = {name: value for name, value in content.items() if name != key}
    prefixes = {_WRAPPERS.match(name)[0] for name in tensors}  # type: ignore[index]
    if len(prefixes) == 1:
        tensors = {name.removeprefix(*prefixes): value for name, value in tensors.items()}
    return tensors, meta


def _tensors(content):
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, TorchTensor)
    }


def _read_safetensors(path):
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(
            f'{path} needs the safetensors package: pip install "keras-psp[safetensors]".'
        ) from error
    return load_file(path)


_READERS = {
    "caffe": read_caffe,
    "h5": read_h5,
    "mxnet": read_mxnet,
    "npz": read_npz,
    "safetensors": _read_safetensors,
    "torch": read_torch,
}
