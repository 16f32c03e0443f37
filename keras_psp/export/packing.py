"""What travels inside a TFLite file besides the network."""

import io
import json
import os
import zipfile
from typing import Any

import numpy as np

from keras_psp.export.metadata import NAME, metadata_json

LABELS = "labels.txt"
_STANDARD = "TFLITE_METADATA"
# Of TensorFlow's metadata_schema.fbs, version 1.0.0: kinds of associated files and of content,
# and the fields of its tables by their position.
_DESCRIPTIONS, _AXIS_LABELS, _VALUE_LABELS = 1, 2, 3
_FEATURE, _IMAGE, _RGB = 1, 2, 1
_NORMALIZATION = 1


def packed(content: bytes, about: dict[str, Any], *, half_precision: bool = False) -> bytes:
    """A TFLite file with its classes, colours and origin, readable in three ways.

    - `keras_psp.json` and `labels.txt` (one class a line) as a ZIP archive at the end of the
      file, which any program for ZIP files opens: TFLite's "associated files";
    - the entry "TFLITE_METADATA" of the flatbuffer, TFLite's own description of input and
      output, for Android Studio and TFLite's libraries;
    - the entry "keras_psp.json" of the flatbuffer, the same JSON, which outlives tools that
      rewrite the file without what is behind it.

    Args:
        content: what the converter made.
        about: see `metadata`.
        half_precision: note that it may be computed in float16 where hardware is faster so.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    for tensor, side in ((graph.inputs[0], "input"), (graph.outputs[0], "output")):
        graph.tensors[tensor].name = about[side]["name"]
    text = metadata_json(about).encode()
    entries = {NAME: text, _STANDARD: _standard_metadata(about)}
    if half_precision:
        entries["reduced_precision_support"] = b"fp16accfp32"
    model.metadata = [entry for entry in model.metadata or () if _text(entry.name) not in entries]
    for name, value in entries.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(value, np.uint8)
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)

    file = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    with zipfile.ZipFile(file, "a") as archive:
        for name, value in ((NAME, text), (LABELS, _lines(about["class_names"]))):
            # A fixed date: the same network makes the same file.
            archive.writestr(zipfile.ZipInfo(name), value)
    return file.getvalue()


def tflite_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The classes, colours, origin, input and output of a TFLite file, as `metadata` has them.

    Raises:
        ValueError: the file has none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(NAME))
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise ValueError(
            f"{path} holds no {NAME}; only files that keras_psp.export.tflite wrote have it."
        ) from None


def _lines(names):
    # One line a class whatever is in a name.
    return "".join(" ".join(name.split()) + "\n" for name in names).encode()


def _text(name):
    return name.decode() if isinstance(name, bytes) else name


def _standard_metadata(about):
    """TFLite's own ModelMetadata, as a flatbuffer."""
    import flatbuffers

    builder = flatbuffers.Builder()

    def table(fields, size):
        """Fields by position: ("offset" | "byte" | "float", value)."""
        builder.StartObject(size)
        for position, (kind, value) in fields.items():
            if kind == "offset":
                builder.PrependUOffsetTRelativeSlot(position, value, 0)
            else:
                builder.PrependInt8Slot(position, value, 0)
        return "offset", builder.EndObject()

    def string(value):
        return "offset", builder.CreateString(value)

    def vector(offsets):
        builder.StartVector(4, len(offsets), 4)
        for _, offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return "offset", builder.EndVector()

    def floats(*values):
        return "offset", builder.CreateNumpyVector(np.array(values, "float32"))

    def file(name, description, kind):
        return table({0: string(name), 1: string(description), 2: ("byte", kind)}, 4)

    given, found = about["input"], about["output"]
    colours = table({0: ("byte", _RGB)}, 2)
    content = table({0: ("byte", _IMAGE), 1: colours}, 3)
    # Pixels go in as they are.
    identity = table({0: floats(0), 1: floats(1)}, 2)
    units = vector([table({0: ("byte", _NORMALIZATION), 1: identity}, 2)])
    stats = table({0: floats(255), 1: floats(0)}, 2)
    image = table(
        {
            0: string(given["name"]),
            1: string(given["meaning"]),
            3: content,
            4: units,
            5: stats,
        },
        7,
    )
    content = table({0: ("byte", _FEATURE), 1: table({}, 0)}, 3)
    kind = _VALUE_LABELS if found["name"] == "classes" else _AXIS_LABELS
    labels = vector([file(LABELS, "name of every class, in order", kind)])
    output = table(
        {0: string(found["name"]), 1: string(found["meaning"]), 3: content, 6: labels}, 7
    )
    graph = table({2: vector([image]), 3: vector([output])}, 7)
    fields = {
        0: string(about["preset"] or "PSPNet"),
        1: string(f"{about['network']}: a class for every pixel"),
        3: vector([graph]),
        4: string(about["library"]),
        6: vector([file(NAME, "classes, colours, origin, input and output", _DESCRIPTIONS)]),
        7: string("1.0.0"),
    }
    if about["licence"]:
        fields[5] = string(about["licence"])
    builder.Finish(table(fields, 8)[1], b"M001")
    return bytes(builder.Output())
