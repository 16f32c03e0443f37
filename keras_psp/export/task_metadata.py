"""TFLite's own metadata, which MediaPipe Tasks and the Task Library read.

It is written field by field, since no small package contains the classes of the public schema
(MediaPipe's tasks/metadata/metadata_schema.fbs). Field numbers are the positions in it.
"""

from typing import Any

LABELS = "labels.txt"
"""The associated file of class names."""

_AXIS_LABELS, _VALUE_LABELS = 2, 3  # of AssociatedFileType
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 2, 1  # of the unions ContentProperties, ...
_UNKNOWN, _RGB, _GRAYSCALE = 0, 1, 2  # of ColorSpaceType
_NONE, _SOFTMAX = 0, 2  # of Activation


def task_metadata(about: dict[str, Any]) -> bytes:
    """Returns the buffer "TFLITE_METADATA" for a file with this `keras_psp.export.metadata`."""
    import flatbuffers

    writer = flatbuffers.Builder()
    image, output = about["input"], about["output"]
    # Images go in as they are.
    normalization = _table(writer, {0: _floats(writer, [0]), 1: _floats(writer, [1])})
    unit = _table(writer, {1: normalization}, {0: _NORMALIZATION_OPTIONS})
    stats = _table(writer, {0: _floats(writer, [255]), 1: _floats(writer, [0])})
    color_space = {3: _RGB, 1: _GRAYSCALE}.get(image["shape"][-1], _UNKNOWN)
    inputs = _tensor(writer, image, color_space, {4: _vector(writer, [unit]), 5: stats})
    kind = _VALUE_LABELS if output["name"] == "classes" else _AXIS_LABELS
    labels = _table(writer, {0: writer.CreateString(LABELS)}, {2: kind})
    outputs = _tensor(writer, output, _GRAYSCALE, {6: _vector(writer, [labels])})
    subgraph = {2: _vector(writer, [inputs]), 3: _vector(writer, [outputs])}
    activation = _SOFTMAX if output["name"] == "logits" else _NONE
    segmenter = {
        0: writer.CreateString("SEGMENTER_METADATA"),
        1: writer.CreateByteVector(_segmenter_options(activation)),
    }
    subgraph[9] = _vector(writer, [_table(writer, segmenter)])
    texts = {0: about["network"], 1: about["preset"], 4: about["library"], 5: about["license"]}
    texts[7] = "1.5.0"  # the oldest parser that knows all of this
    model = {field: writer.CreateString(text) for field, text in texts.items() if text}
    model[3] = _vector(writer, [_table(writer, subgraph)])
    writer.Finish(_table(writer, model), b"M001")
    return bytes(writer.Output())


def _segmenter_options(activation):
    """What MediaPipe still has to apply to the output, as a buffer of its own."""
    import flatbuffers

    writer = flatbuffers.Builder()
    fields = {1: writer.CreateString("1.0.0")}
    writer.Finish(_table(writer, fields, {0: activation}), b"V001")
    return bytes(writer.Output())


def _tensor(writer, described, color_space, fields):
    """TensorMetadata of an image or a map."""
    properties = _table(writer, {}, {0: color_space})
    content = _table(writer, {1: properties}, {0: _IMAGE_PROPERTIES})
    names = {0: described["name"], 1: described["meaning"]}
    texts = {field: writer.CreateString(text) for field, text in names.items()}
    return _table(writer, {**texts, 3: content, **fields})


def _table(writer, offsets, numbers=()):
    """Writes a table of {field: offset of its value} and {field: byte}."""
    numbers = dict(numbers)
    writer.StartObject(1 + max([*offsets, *numbers]))
    for field, offset in offsets.items():
        writer.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, number in numbers.items():
        writer.PrependInt8Slot(field, number, 0)
    return writer.EndObject()


def _vector(writer, tables):
    writer.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        writer.PrependUOffsetTRelative(table)
    return writer.EndVector()


def _floats(writer, values):
    writer.StartVector(4, len(values), 4)
    for value in reversed(values):
        writer.PrependFloat32(value)
    return writer.EndVector()
