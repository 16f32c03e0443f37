"""Small jobs on Beam's local runner, whose results can be computed by hand."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.networks import tiny_backbone, tiny_pspnet

CLASSES = ("sky", "sea", "boat")
RULES = (("images/", "labels/"),)


class Threshold:
    """Replaces `Segmenter`: the class is the red value divided by 100."""

    def __init__(self, model, protocol=None):
        self.sizes = []

    def classes(self, images):
        self.sizes.append([image.shape for image in images])
        if any(image.shape[0] < 4 for image in images):
            raise ValueError("images of less than 4 rows are too small\nand more")
        return [(image[..., 0] // 100).astype(np.uint8) for image in images]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A `.keras` file of a tiny network with three classes."""
    path = tmp_path_factory.mktemp("network") / "small.keras"
    model = tiny_pspnet(3, backbone=tiny_backbone(), bin_sizes=(1, 2), class_names=CLASSES)
    model.save(path)
    return path


@pytest.fixture
def by_hand(monkeypatch):
    """Lets jobs use `Threshold`, which the fixture returns."""
    from keras_psp.beam import handler

    monkeypatch.setattr(handler, "Segmenter", Threshold)
    monkeypatch.setattr(handler, "open_model", lambda model: None)
    return Threshold


@pytest.fixture
def write_set(tmp_path):
    """A function that writes labeled images, of two sizes and in two folders, to `tmp_path`.

    It returns the confusion matrix of `Threshold`.
    """

    def write(count=6, seed=0):
        rng = np.random.default_rng(seed)
        expected = np.zeros((3, 3), np.int64)
        for index in range(count):
            size = ((6, 8), (8, 6))[index % 2]
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            label = rng.choice(np.uint8([0, 1, 2, 255]), size)
            for kind, values in (("images", image), ("labels", label)):
                path = tmp_path / kind / f"folder {index % 2}" / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
            for truth, value in zip(label.ravel(), image[..., 0].ravel(), strict=True):
                if truth != 255:
                    expected[truth, value // 100] += 1
        return expected

    return write


@pytest.fixture
def predict(network, tmp_path):
    """A function that runs a job for the images of `write_set`."""
    from keras_psp import beam

    def run(output="out", *, labels=RULES, **arguments):
        source = beam.ImageFiles(f"{tmp_path}/images/**.png", labels=labels)
        return beam.predict_many(source, network, tmp_path / output, progress=False, **arguments)

    return run


@functools.cache
def memory_file_system():
    """The class of a file system in memory, memory://, which works like that of a bucket."""
    from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

    class Memory(FileSystem):
        files: dict[str, bytes] = {}
        renamed: list[str] = []

        @classmethod
        def scheme(cls):
            return "memory"

        def join(self, basepath, *paths):
            return "/".join([basepath.rstrip("/"), *paths])

        def split(self, path):
            return tuple(path.rsplit("/", 1))

        def mkdirs(self, path):
            pass

        def has_dirs(self):
            return False

        def _list(self, dir_or_prefix):
            for path, data in sorted(self.files.items()):
                if path.startswith(dir_or_prefix):
                    yield FileMetadata(path, len(data))

        def create(self, path, mime_type="", compression_type=""):
            files = self.files

            class Writer(io.BytesIO):
                def close(self):
                    files[path] = self.getvalue()
                    super().close()

            return Writer()

        def open(self, path, mime_type="", compression_type=""):
            if path not in self.files:
                raise BeamIOError(f"no object {path}")
            return io.BytesIO(self.files[path])

        def rename(self, source_file_names, destination_file_names):
            for source, destination in zip(source_file_names, destination_file_names, strict=True):
                self.renamed.append(destination)
                self.files[destination] = self.files.pop(source)

        def exists(self, path):
            return path in self.files

        def delete(self, paths):
            for path in paths:
                del self.files[path]

        copy = size = last_updated = checksum = metadata = None

    return Memory


@pytest.fixture
def bucket(monkeypatch):
    """The empty file system memory://."""
    file_system = memory_file_system()
    monkeypatch.setattr(file_system, "files", {})
    monkeypatch.setattr(file_system, "renamed", [])
    return file_system


@pytest.fixture
def example():
    """A function that serializes a tf.train.Example with features of bytes."""

    def serialize(**features):
        given = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for name, value in features.items()
        }
        return tf.train.Example(features=tf.train.Features(feature=given)).SerializeToString()

    return serialize
