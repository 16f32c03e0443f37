"""Checkpoints in other projects' formats, written without their packages."""

import collections
import pickle
import struct
import zipfile

import numpy as np

_KINDS = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}


class Name:
    """A name in a pickle, as `torch._utils._rebuild_tensor_v2`; nothing is imported."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError("only written, never called")


class Call:
    """A pickle that would call a name with these arguments."""

    def __init__(self, module, name, *arguments):
        self.name, self.arguments = Name(module, name), arguments


class _Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)

    def __init__(self, file, arrays, legacy):
        super().__init__(file, protocol=2)
        self.arrays, self.legacy = arrays, legacy

    def save_name(self, name):
        self.write(b"c" + f"{name.module}\n{name.name}\n".encode())

    def save_call(self, call):
        self.save_reduce(call.name, call.arguments)

    def save_array(self, array):
        key = str(len(self.arrays))
        self.arrays[key] = np.ascontiguousarray(array)
        strides, step = [], 1
        for size in reversed(array.shape):
            strides.insert(0, step)
            step *= size
        storage = _Storage(array.dtype.name, key, array.size)
        rebuild = Name("torch._utils", "_rebuild_tensor_v2")
        empty = collections.OrderedDict()
        self.save_reduce(rebuild, (storage, 0, array.shape, tuple(strides), False, empty))

    dispatch[Name] = save_name
    dispatch[Call] = save_call
    dispatch[np.ndarray] = save_array

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        kind = Name("torch", _KINDS[value.dtype])
        reference = ("storage", kind, value.key, "cpu", value.size)
        return (*reference, None) if self.legacy else reference


class _Storage:
    def __init__(self, dtype, key, size):
        self.dtype, self.key, self.size = dtype, key, size


def write_torch(path, content, *, legacy=False):
    """As torch.save, with numpy arrays in place of tensors."""
    arrays = {}
    if legacy:
        with open(path, "wb") as file:
            pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
            pickle.dump(1001, file, protocol=2)
            pickle.dump({"little_endian": True}, file, protocol=2)
            _Pickler(file, arrays, legacy).dump(content)
            pickle.dump(sorted(arrays, reverse=True), file, protocol=2)
            for key in sorted(arrays, reverse=True):
                file.write(struct.pack("<q", arrays[key].size) + arrays[key].tobytes())
        return
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("archive/data.pkl", "w") as file:
            _Pickler(file, arrays, legacy).dump(content)
        archive.writestr("archive/byteorder", "little")
        for key, array in arrays.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())


def write_mxnet(path, arrays, *, magic=0xF993FAC9):
    """As mxnet.nd.save (src/ndarray/ndarray.cc)."""
    codes = {"float32": 0, "float16": 2}
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        parts.append(struct.pack("<Iii", magic, 0, array.ndim))
        parts.append(struct.pack(f"<{array.ndim}q", *array.shape))
        parts.append(struct.pack("<iii", 1, 0, codes[array.dtype.name]) + array.tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts.append(struct.pack("<Q", len(name)) + name.encode())
    path.write_bytes(b"".join(parts))


def write_caffe(path, blobs, *, packed=True):
    """As Net::ToProto writes a .caffemodel; blobs by "layer/index"."""
    layers = collections.defaultdict(list)
    for name, blob in blobs.items():
        layers[name.rsplit("/", 1)[0]].append(blob)
    message = _field(1, b"net")
    for name, content in layers.items():
        layer = _field(1, name.encode()) + _field(2, b"Convolution")
        for blob in content:
            data = _field(5, blob.tobytes()) if packed else _unpacked(blob)
            layer += _field(7, data + _field(7, _field(1, b"".join(map(_varint, blob.shape)))))
        message += _field(100, layer)
    path.write_bytes(message)


def _unpacked(blob):
    return b"".join(_varint(5 << 3 | 5) + value.tobytes() for value in blob.ravel())


def _field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
