"""Reads Caffe's .caffemodel files: the blobs of a NetParameter message.

Only the fields with weights are read, directly from protobuf's wire format
(caffe.proto: NetParameter.layer = 100, .layers = 2 of V1; LayerParameter.name = 1,
.blobs = 7; V1LayerParameter.name = 4, .blobs = 6; BlobProto.shape = 7, .data = 5,
.double_data = 8, .num, .channels, .height, .width = 1 to 4).
"""

import math
from pathlib import Path

import numpy as np

from keras_psp.weights.files.errors import WeightsFileError, printable

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}  # field of the net: (name, blobs) of a layer


def read_caffe(path: str | Path) -> dict[str, np.ndarray]:
    """Reads blobs by "layer/index"; those stored contiguously are mapped from the file."""
    buffer = np.memmap(path, "u1", "r")
    view = memoryview(buffer)  # type: ignore[arg-type]
    blobs: dict[str, np.ndarray] = {}
    for field, kind, layer in _fields(view):
        if field not in _LAYER_FIELDS or kind != _BYTES:
            continue
        name_field, blob_field = _LAYER_FIELDS[field]
        parts = list(_fields(layer))
        name = next((bytes(v).decode() for f, k, v in parts if f == name_field), "")
        content = [v for f, k, v in parts if f == blob_field and k == _BYTES]
        blobs |= {f"{name}/{index}": _blob(blob, name) for index, blob in enumerate(content)}
    return blobs


def _fields(view):
    """(number, wire type, value) of every field of a message."""
    position = 0
    while position < len(view):
        tag, position = _varint(view, position)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(view, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES, _BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
            if kind == _BYTES:
                size, position = _varint(view, position)
            if position + size > len(view):
                raise WeightsFileError("a message extends past the end: it is truncated.")
            value, position = view[position : position + size], position + size
        else:
            raise WeightsFileError(f"it contains protobuf's unused wire type {kind}.")
        if field == 0:
            raise WeightsFileError("it contains protobuf's forbidden field 0.")
        yield field, kind, value


def _varint(view, position):
    value = shift = 0
    while True:
        if position >= len(view) or shift > 63:
            raise WeightsFileError("a number in it doesn't end: it is truncated.")
        byte = view[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _blob(view, layer):
    shape, sizes, pieces = None, {}, []
    for field, kind, value in _fields(view):
        if field == 7 and kind == _BYTES:
            shape = _dimensions(value)
        elif field in (1, 2, 3, 4) and kind == _VARINT:
            sizes[field] = value
        elif field == 5:  # packed, or one float per field
            pieces.append(np.frombuffer(value, "<f4"))
        elif field == 8:
            pieces.append(np.frombuffer(value, "<f8"))
    if shape is None:
        shape = [sizes.get(field, 1) for field in (1, 2, 3, 4)]
    data = pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, "f4"), *pieces])
    if data.size != math.prod(shape):
        raise WeightsFileError(
            f"layer {printable(layer)} has {data.size} numbers for a blob of shape "
            f"{tuple(shape)}: it is damaged or stores weights in an unsupported way."
        )
    return data.reshape(shape)


def _dimensions(view):
    """Sizes of a BlobShape, packed or one per field."""
    sizes = []
    for field, kind, value in _fields(view):
        if field == 1 and kind == _VARINT:
            sizes.append(value)
        position = 0
        while field == 1 and kind == _BYTES and position < len(value):
            size, position = _varint(value, position)
            sizes.append(size)
    return sizes
