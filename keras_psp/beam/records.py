"""TFRecord files of tf.train.Example, on any of Beam's file systems.

Input, with the feature names of DeepLab's converters and of tensorflow-datasets' exports:

    image/encoded                     bytes of a JPEG, PNG, BMP or WebP file
    image/filename                    its name; folders are separated by "/"
    image/segmentation/class/encoded  for evaluation, a PNG of class indices

Output:

    image/filename                    the name, without suffix
    image/origin                      path of the image
    image/height, image/width         pixels
    image/segmentation/class/encoded  a PNG of class indices
    image/segmentation/class/format   "png"
    confusion                         for evaluation, int64 triples (label, class, pixels)
"""

import struct
from collections.abc import Iterable, Iterator

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

IMAGE, NAME = "image/encoded", "image/filename"
LABEL, LABEL_FORMAT = "image/segmentation/class/encoded", "image/segmentation/class/format"
ORIGIN, HEIGHT, WIDTH, CONFUSION = "image/origin", "image/height", "image/width", "confusion"

Features = dict[str, bytes | list[int]]


def read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a file, which may be compressed (.gz), in order.

    Raises a ValueError where the file is truncated or corrupt.
    """
    with FileSystems.open(path, compression_type=CompressionTypes.AUTO) as file:
        number = 0
        while head := file.read(12):
            number += 1
            if len(head) == 12 and _checksum(head[:8]) == head[8:]:
                (length,) = struct.unpack("<Q", head[:8])
                data, check = file.read(length), file.read(4)
                if len(data) == length and _checksum(data) == check:
                    yield data
                    continue
            raise ValueError(
                f"{path}: record {number} is truncated or corrupt; write the file again. The "
                "records after it were not read."
            )


def to_bytes(records: Iterable[bytes]) -> bytes:
    """Returns the content of a file with these records."""
    parts = []
    for data in records:
        length = struct.pack("<Q", len(data))
        parts += [length, _checksum(length), data, _checksum(data)]
    return b"".join(parts)


def _checksum(data):
    """TFRecord's masked CRC-32C, 4 bytes."""
    from google_crc32c import value

    crc = value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def parse(record: bytes) -> Features:
    """Reads a serialized tf.train.Example; only the first entry of a list of bytes is kept."""
    import tensorflow as tf

    try:
        example = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # depends on the implementation of protobuf
        raise ValueError(f"not a tf.train.Example ({error}); write the record again.") from error
    features: Features = {}
    for name, feature in example.items():
        if feature.bytes_list.value:
            features[name] = feature.bytes_list.value[0]
        elif feature.int64_list.value:
            features[name] = list(feature.int64_list.value)
    return features


def serialize(features: Features) -> bytes:
    """Returns a serialized tf.train.Example."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))

    wrapped = {name: feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=wrapped)).SerializeToString(
        deterministic=True
    )
