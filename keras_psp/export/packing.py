"""Metadata inside a TFLite file."""

import io
import json
import os
import zipfile
from typing import Any

import numpy as np

from keras_psp.export.metadata import NAME, metadata_json


def packed(content: bytes, about: dict[str, Any], *, half_precision: bool = False) -> bytes:
    """Adds class names, colors and origin to a TFLite file, in two places.

    - A ZIP archive at the end of the file, which any ZIP program opens, contains
      `keras_psp.json` and `labels.txt` (one class name per line). TFLite calls these
      "associated files".
    - The flatbuffer's metadata entry "keras_psp.json" is the same JSON. It survives tools that
      rewrite the file without the archive.

    `half_precision` marks the file as safe to compute in float16 on hardware that is faster so.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    for tensor, side in ((graph.inputs[0], "input"), (graph.outputs[0], "output")):
        graph.tensors[tensor].name = about[side]["name"]
    entries = {NAME: metadata_json(about).encode()}
    if half_precision:
        entries["reduced_precision_support"] = b"fp16accfp32"
    model.metadata = [e for e in model.metadata or () if e.name.decode() not in entries]
    for name, value in entries.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(value, np.uint8)
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)

    # One line per class, whatever a name contains.
    labels = "".join(" ".join(name.split()) + "\n" for name in about["class_names"])
    file = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    with zipfile.ZipFile(file, "a") as archive:
        # ZipInfo's fixed date: the same network makes the same file.
        archive.writestr(zipfile.ZipInfo(NAME), entries[NAME])
        archive.writestr(zipfile.ZipInfo("labels.txt"), labels)
    return file.getvalue()


def tflite_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the class names, colors, origin, input and output of a TFLite file.

    Returns:
        See `metadata`.

    Raises:
        ValueError: if the file has no metadata of keras_psp.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(NAME))
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise ValueError(
            f"{path} contains no {NAME}; only files written by keras_psp.export.tflite do."
        ) from None
