"""Requests that TensorFlow Serving answers before it lets a new version take others.

The protos are of the package tensorflow-serving-api, which brings a second TensorFlow where
another build is installed; the few fields are written here instead.
"""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

FILE = "tf_serving_warmup_requests"
"""In assets.extra, a TFRecord file of PredictionLog."""

MOST = 1000
"""Records that the server takes."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One call of a signature.

    Attributes:
        signature: its name.
        input: the name of its only input.
        value: what goes in, a numpy array; of images a grey one.
    """

    signature: str
    input: str
    value: np.ndarray


def warmup_requests(
    sizes: list[tuple[int, int]], *, batch_size: int, input_dtype: str
) -> list[Request]:
    """Grey images of each size for "serving_default", as PNG and JPEG for "serve_bytes"."""
    found = []
    for height, width in sizes:
        grey = np.full((height, width, 3), 127, np.uint8)
        batch = np.broadcast_to(grey.astype(input_dtype), (batch_size, *grey.shape))
        found.append(Request("serving_default", "image", batch))
        files = np.array([_encoded(grey, "PNG"), _encoded(grey, "JPEG")], object)
        found.append(Request("serve_bytes", "image_bytes", files))
    return found


def write_warmup(path: Path, model_name: str, requests: list[Request]) -> None:
    """Write the file that the server replays."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(prediction_log(model_name, request))


def prediction_log(model_name: str, request: Request) -> bytes:
    """A PredictionLog as bytes.

    By field number, of tensorflow_serving/apis/: prediction_log.proto (predict_log 6, its
    request 1), predict.proto (model_spec 1, inputs 2: key 1, value 2) and model.proto
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
    """A TensorProto; one of a single value says so once, which readers repeat."""
    import tensorflow as tf

    if value.dtype == object:
        return tf.make_tensor_proto(value, "string")
    proto = tf.make_tensor_proto(value.flat[0], value.dtype, shape=())
    assert (value == value.flat[0]).all()
    proto.tensor_shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
    return proto


def _encoded(image, kind):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()
