"""Requests that TensorFlow Serving answers before it puts a new version into service.

The messages are those of the package tensorflow-serving-api. It would install a second TensorFlow
next to another build, so the few fields are encoded here.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

FILE = "tf_serving_warmup_requests"
"""Name in assets.extra of the TFRecord file of PredictionLog messages."""

MAX_REQUESTS = 1000
"""Most requests that the server accepts."""


class Request(NamedTuple):
    """One call of a signature with the value of its only input, whose numbers are all equal."""

    signature: str
    input: str
    value: np.ndarray


def warmup_requests(
    sizes: list[tuple[int, int]], *, batch_size: int, input_dtype: str
) -> list[Request]:
    """Gray images of each size for "serving_default", and as PNG and JPEG for "serve_bytes"."""
    requests = []
    for height, width in sizes:
        gray = np.full((height, width, 3), 127, np.uint8)
        batch = np.broadcast_to(gray.astype(input_dtype), (batch_size, *gray.shape))
        requests.append(Request("serving_default", "image", batch))
        files = np.array([_encoded(gray, "PNG"), _encoded(gray, "JPEG")], object)
        requests.append(Request("serve_bytes", "image_bytes", files))
    return requests


def write_warmup(path: Path, model_name: str, requests: list[Request]) -> None:
    """Writes the file that the server replays."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(prediction_log(model_name, request))


def prediction_log(model_name: str, request: Request) -> bytes:
    """A serialized PredictionLog message.

    The field numbers are those of tensorflow_serving/apis/: prediction_log.proto (predict_log 6,
    its request 1), predict.proto (model_spec 1, inputs 2: key 1, value 2) and model.proto
    (name 1, signature_name 3).
    """
    spec = _field(1, model_name.encode()) + _field(3, request.signature.encode())
    tensor = _tensor(request.value).SerializeToString()
    inputs = _field(1, request.input.encode()) + _field(2, tensor)
    return _field(6, _field(1, _field(1, spec) + _field(2, inputs)))


def _field(number, content):
    """A length-delimited protobuf field."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _tensor(value):
    """A TensorProto; equal numbers are stored once, and readers repeat them."""
    import tensorflow as tf

    if value.dtype == object:
        return tf.make_tensor_proto(value, "string")
    assert (value == value.flat[0]).all()
    proto = tf.make_tensor_proto(value.flat[0], value.dtype, shape=())
    proto.tensor_shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
    return proto


def _encoded(image, file_format):
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format)
    return file.getvalue()
