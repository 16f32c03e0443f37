"""Reads PyTorch's .pth files without PyTorch and without running code in them.

A .pth file is a pickle, which is a small program. This reader knows the few names that
a state dict needs and refuses all others, so that a file can't call anything. The
numbers are mapped from disk when they are used. Both formats are supported: the zip
archive of torch 1.6 and later, and the older sequence of pickles.
"""

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.weights.files.errors import WeightsFileError, printable

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LARGEST_PICKLE = 1 << 24
_DEEPEST = 100
_TORCH_DTYPES = ("bool", "int32", "int64", "bfloat16", "float16", "float32", "float64")
# Other contents of training checkpoints; their values aren't used.
_HARMLESS: dict[str, set[str]] = {
    "_codecs": {"encode"},
    "argparse": {"Namespace"},
    # HistoryBuffer, mmengine's log, refers to its methods by getattr.
    "builtins": {"dict", "float", "getattr", "int", "list", "set"},
    "collections": {"Counter", "defaultdict", "deque"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "pathlib": {"Path", "PosixPath", "WindowsPath"},
    "torch": {"Size", "device", *_TORCH_DTYPES},
}
# mmsegmentation's training logs and Lightning's metadata.
_HARMLESS_PACKAGES = (
    "lightning.",
    "lightning_fabric.",
    "mmcv.",
    "mmengine.",
    "mmseg.",
    "omegaconf.",
    "pytorch_lightning.",
)


class _Fixed:
    """Base class of objects that a pickle may create but not change."""

    __slots__ = ()

    def __setstate__(self, state):
        raise WeightsFileError("it tries to change the reader's internals.")


class TorchTensor(_Fixed):
    """A tensor in a file; `numpy.asarray` reads its numbers."""

    __slots__ = ("_offset", "_storage", "_strides", "shape")

    def __init__(self, storage, offset, shape, strides):
        self._storage, self._offset = storage, int(offset)
        self.shape = tuple(int(n) for n in shape)
        self._strides = tuple(int(n) for n in strides)

    def check(self) -> None:
        """Refuses a tensor that isn't entirely in its storage."""
        sizes, strides = self.shape, self._strides
        if 0 in sizes:
            return
        last = self._offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if self._offset < 0 or min(strides, default=0) < 0 or last >= self._storage.size:
            raise WeightsFileError("a tensor extends past its storage; it is damaged.")
        if math.prod(sizes) > self._storage.size:
            raise WeightsFileError("a tensor repeats its numbers, which weights never do.")

    def __array__(self, dtype=None, copy=None):
        flat = self._storage.numbers()
        if 0 in self.shape:
            array = np.zeros(self.shape, flat.dtype)
        else:
            array = np.lib.stride_tricks.as_strided(
                flat[self._offset :],
                self.shape,
                [step * flat.itemsize for step in self._strides],
                writeable=False,
            )
        return array if dtype is None else array.astype(dtype)


class _Storage(_Fixed):
    __slots__ = ("_dtype", "_start", "bytes", "key", "path", "size", "tensors")

    def __init__(self, kind, key, size):
        self._dtype, self.key, self.size = kind.dtype, str(key), int(size)
        self.bytes = self.size * (2 if kind.dtype == "bfloat16" else np.dtype(kind.dtype).itemsize)
        self.path = None
        self.tensors = []

    def attach(self, path: Path, start: int) -> None:
        """Sets where the numbers are, after the caller has checked that all are present."""
        self.path, self._start = path, start
        for tensor in self.tensors:
            tensor.check()

    def numbers(self) -> np.ndarray:
        raw = np.zeros(0, "u1")
        if self.bytes > 0:  # an empty file can't be mapped
            raw = np.memmap(self.path, "u1", "r", offset=self._start, shape=(self.bytes,))
            raw = np.asarray(raw)
        if self._dtype == "bfloat16":  # the upper half of a float32
            return (raw.view("<u2").astype("<u4") << 16).view("<f4")
        return raw.view(self._dtype)


class _Callable(_Fixed):
    """Replaces a name in a pickle, which can call it but not change it."""

    __slots__ = ("_function", "dtype")

    def __init__(self, function=None, dtype=None):
        self._function, self.dtype = function, dtype

    def __call__(self, *args):
        return self._function(*args)


class _Unused(_Fixed):
    """An object whose contents aren't used; what a pickle does to it has no effect."""

    __slots__ = ()

    def _ignore(self, *args, **kwargs):
        pass

    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignore


def _rebuild_tensor(storage, offset, shape, strides, *rest):
    del rest  # requires_grad and hooks
    if not isinstance(storage, _Storage):
        raise WeightsFileError("it contains a tensor without a storage.")
    tensor = TorchTensor(storage, offset, shape, strides)
    storage.tensors.append(tensor)
    return tensor


_NAMES = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Callable(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor"): _Callable(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Callable(lambda tensor, *rest: tensor),
    **{("torch", name): _Callable(dtype=dtype) for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, storages):
        # Pickles of Python 2 hold byte strings.
        super().__init__(file, encoding="utf-8", errors="replace")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        known = _NAMES.get((module, name))
        if known is not None:
            return known
        if name in _HARMLESS.get(module, ()) or module.startswith(_HARMLESS_PACKAGES):
            return _Unused
        shown = printable(f"{module}.{name}")
        if module.startswith(("torch.nn.", "model", "segmentation_models", "gluoncv")):
            raise WeightsFileError(
                f"it contains a whole pickled model ({shown}), which only its own code can "
                "open; save model.state_dict() there and convert that."
            )
        raise WeightsFileError(
            f"it asks to run {shown}, which weights never need; nothing was run. If you know who "
            "made it, save model.state_dict() alone with its own code and convert that; otherwise, "
            "don't use it."
        )

    def persistent_load(self, reference: Any) -> Any:
        kind, storage, key, _, size, *_ = reference
        if kind != "storage" or getattr(storage, "dtype", None) is None:
            raise WeightsFileError("it refers to something that isn't a storage of numbers.")
        return self._storages.setdefault(key, _Storage(storage, key, size))


def _load(file, storages):
    """Loads the next pickle in a file after checking that it is harmless."""
    start = file.tell()
    _scan(file)
    end = file.tell()
    file.seek(start)
    return _Unpickler(io.BytesIO(file.read(end - start)), storages).load()


def _scan(file):
    """Reads a pickle's instructions without running them; refuses malicious ones.

    A few bytes can request gigabytes (a memo of 2^32 entries), and deeply nested values
    overflow the interpreter's stack.
    """
    start, stack, marks, memo = file.tell(), [], [], {}
    for operation, argument, position in pickletools.genops(file):
        if position - start > _LARGEST_PICKLE:
            raise WeightsFileError("its list of tensors is too large.")
        name = operation.name
        if name == "MARK":
            marks.append(len(stack))
            continue
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            if argument > position - start:
                raise WeightsFileError("it requests too much memory.")
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            before = [kind.name for kind in operation.stack_before]
            count = len(before)
            if "mark" in before:
                count = before.index("mark") + len(stack) - marks.pop()
            taken = [stack.pop() for _ in range(count)]
            if operation.stack_after:
                stack.append(max(taken, default=-1) + 1)
                if stack[-1] > _DEEPEST:
                    raise WeightsFileError("its values are nested too deeply.")


def read_torch(path: str | Path) -> Any:
    """Reads the object in a .pth file, with a `TorchTensor` for each tensor."""
    path = Path(path)
    return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for name in entries:
            if name.startswith("/") or ".." in Path(name).parts or "\\" in name:
                raise WeightsFileError(
                    f"its entry '{printable(name)}' points outside the archive; nothing was "
                    "written."
                )
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsFileError("it is a zip archive but not one written by torch.save.")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in entries:
            raise WeightsFileError(
                "it is a TorchScript archive, which is code; save model.state_dict() instead."
            )
        order = f"{folder}byteorder"
        sizes = {pickles[0]: _LARGEST_PICKLE, order: 16}
        if any(entries[name].file_size > size for name, size in sizes.items() if name in entries):
            raise WeightsFileError("its list of tensors is too large.")
        if order in entries and archive.read(order) != b"little":
            raise WeightsFileError("its numbers are big-endian, which isn't supported.")
        storages = {}
        content = _load(io.BytesIO(archive.read(pickles[0])), storages)
        for storage in storages.values():
            entry = entries.get(f"{folder}data/{storage.key}")
            if entry is None or entry.file_size < storage.bytes:
                raise WeightsFileError("numbers are missing; it is damaged, download it again.")
            if entry.compress_type != zipfile.ZIP_STORED:  # torch never compresses
                raise WeightsFileError("its numbers are compressed, which torch.save never does.")
            storage.attach(path, _start_of(path, entry))
    return content


def _start_of(path, entry):
    """Offset of an archive entry's contents in the file."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(30)
    name, extra = struct.unpack("<HH", header[26:30])
    start = entry.header_offset + 30 + name + extra
    if start + entry.file_size > path.stat().st_size:
        raise WeightsFileError("numbers are missing; it is truncated, download it again.")
    return start


def _read_legacy(path):
    storages = {}
    with path.open("rb") as file:
        if _load(file, {}) != _LEGACY_MAGIC:
            raise WeightsFileError("it is a pickle but not one written by torch.save.")
        _load(file, {})  # protocol version
        system = _load(file, {})
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise WeightsFileError("its numbers are big-endian, which isn't supported.")
        content = _load(file, storages)
        keys = _load(file, {})
        end = path.stat().st_size
        position = file.tell()
        for key in keys:
            storage = storages[key]
            start = position + 8  # after the number of elements
            position = start + storage.bytes
            if position > end:
                raise WeightsFileError("numbers are missing; it is truncated, download it again.")
            storage.attach(path, start)
        if any(storage.path is None for storage in storages.values()):
            raise WeightsFileError("numbers are missing; it is damaged, download it again.")
    return content
