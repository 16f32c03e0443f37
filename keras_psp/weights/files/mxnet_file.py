"""Reads MXNet's .params files: named arrays (src/ndarray/ndarray.cc, NDArray::Save)."""

import math
import re
import struct
from pathlib import Path

import numpy as np

from keras_psp.weights.files.errors import WeightsFileError

MAGIC = 0x112
_LEGACY_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = {7: "?", 0: "<f4", 1: "<f8", 2: "<f2", 3: "<u1", 4: "<i4", 5: "<i1", 6: "<i8"}


def read_mxnet(path: str | Path) -> dict[str, np.ndarray]:
    """Reads arrays by name, mapped from the file."""
    reader = _Reader(np.memmap(path, "u1", "r"))
    _magic, _reserved, count = reader.take("<QQQ")
    arrays = [reader.array() for _ in range(count)]
    (named,) = reader.take("<Q")
    if named != count:
        raise WeightsFileError(f"it has {count} arrays but {named} names; all arrays need names.")
    names = [bytes(reader.bytes(*reader.take("<Q"))).decode() for _ in range(named)]
    # HybridBlock.export prefixes parameters with "arg:" and statistics with "aux:".
    # Gluon numbers the networks of a process: pspnet0_, pspnet1_ ...
    names = [re.sub(r"^(arg:|aux:)?(pspnet\d+_)?", "", name) for name in names]
    return dict(zip(names, arrays, strict=True))


class _Reader:
    def __init__(self, buffer):
        self._buffer, self._position = buffer, 0

    def bytes(self, size: int) -> np.ndarray:
        end = self._position + size
        if end > self._buffer.size:
            raise WeightsFileError("it is truncated; download it again.")
        piece = self._buffer[self._position : end]
        self._position = end
        return piece

    def take(self, layout: str) -> tuple:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)).tobytes())

    def array(self) -> np.ndarray:
        (magic,) = self.take("<I")
        if magic in (_V2, _V3):
            (storage,) = self.take("<i")
            if storage != 0:
                raise WeightsFileError("it contains sparse arrays, which a PSPNet doesn't have.")
            shape = self._shape("<i", "<q")
        elif magic == _LEGACY_V1:
            shape = self._shape("<I", "<q")
        else:  # the oldest format begins with the number of dimensions
            self._position -= 4
            shape = self._shape("<I", "<I")
        if not shape:
            return np.zeros((), "f4")
        self.take("<ii")  # device
        (code,) = self.take("<i")
        if code not in _DTYPES:
            raise WeightsFileError(f"it contains numbers of an unknown type, {code}.")
        dtype = np.dtype(_DTYPES[code])
        return self.bytes(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def _shape(self, count_layout, size_layout):
        (count,) = self.take(count_layout)
        shape = [self.take(size_layout)[0] for _ in range(count)] if 0 <= count <= 32 else [-1]
        if min(shape, default=0) < 0:
            raise WeightsFileError("an array in it has an impossible shape; it is damaged.")
        return shape
