"""Image sets through Beam's local runner: exact, after a kill too, whatever is among them."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

import apache_beam
import keras
import tensorflow as tf
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.testing.util import assert_that, equal_to

import keras_psp
from keras_psp import beam as bulk
from keras_psp.beam import handler, job, pipeline, records, results, sources, storage
from keras_psp.data import GeneratedScenes
from keras_psp.data.label_files import read_training_image, read_mask
from keras_psp.data.pairs import ImagePairs
from keras_psp.prediction import Segmenter

CLASSES = ("sky", "sea", "boat")
RULES = (("images/", "labels/"),)


class Threshold:
    """In place of a Segmenter: classes that one can compute by hand."""

    def __init__(self, model, **options):
        self.sizes = []

    def classes(self, images):
        self.sizes.append([image.shape for image in images])
        if any(image.shape[0] < 4 for image in images):
            raise ValueError("images of less than 4 rows are too small\nand more")
        return [(image[..., 0] // 100).astype(np.uint8) for image in images]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A tiny network of three classes on disk."""
    path = tmp_path_factory.mktemp("network") / "small.keras"
    backbone = keras_psp.DilatedResNet(18, stem_filters=(8,))
    keras_psp.PSPNet(3, backbone=backbone, bin_sizes=(1, 2), class_names=CLASSES).save(path)
    return path


@pytest.fixture
def by_hand(monkeypatch):
    monkeypatch.setattr(handler, "Segmenter", Threshold)
    monkeypatch.setattr(handler, "open_model", lambda model: None)


def write_set(root, count=6, seed=0):
    """Images of two sizes in two folders, with labels; the confusion matrix of `Threshold`."""
    rng = np.random.default_rng(seed)
    expected = np.zeros((3, 3), np.int64)
    for index in range(count):
        size = ((6, 8), (8, 6))[index % 2]
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        label = rng.choice(np.uint8([0, 1, 2, 255]), size)
        for kind, values in (("images", image), ("labels", label)):
            path = root / kind / f"folder {index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
        for truth, value in zip(label.ravel(), image[..., 0].ravel(), strict=True):
            if truth != 255:
                expected[truth, value // 100] += 1
    return expected


def predict(network, root, output="out", *, labels=RULES, **arguments):
    source = bulk.ImageFiles(f"{root}/images/**.png", labels=labels)
    return bulk.predict_many(network, source, root / output, progress=False, **arguments)


@pytest.mark.parametrize("format", results.FORMATS)
def test_one_matrix_over_all_and_a_map_for_each(network, by_hand, tmp_path, format):
    expected = write_set(tmp_path)
    done = predict(network, tmp_path, format=format, shards=2)
    np.testing.assert_array_equal(done.confusion, expected)
    assert (done.images, done.failures, done.class_names) == (6, [], CLASSES)
    out = tmp_path / "out"
    np.testing.assert_array_equal(np.load(out / "confusion.npy"), expected)
    table = json.loads((out / "confusion.json").read_text())
    union = expected.sum(0) + expected.sum(1) - np.diag(expected)
    assert table["iou"]["sea"] == pytest.approx(expected[1, 1] / union[1])
    assert table["mean_iou"] == pytest.approx(np.mean(np.diag(expected) / union))
    assert (table["confusion"], table["ignore_class"]) == (expected.tolist(), 255)
    image = read_training_image(tmp_path / "images/folder 1/3.png")[..., 0] // 100
    if format == "png":
        np.testing.assert_array_equal(read_mask(out / "classes/folder 1/3.png"), image)
        return
    shards = [str(out / f"classes-0000{index}-of-00002.tfrecord") for index in range(2)]
    found = {}
    for record in tf.data.TFRecordDataset(shards).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        found[feature["image/filename"].bytes_list.value[0].decode()] = feature
    assert sorted(found) == [f"folder {index % 2}/{index}" for index in (0, 2, 4, 1, 3, 5)]
    feature = found["folder 1/3"]
    png = feature["image/segmentation/class/encoded"].bytes_list.value[0]
    np.testing.assert_array_equal(tf.io.decode_png(png).numpy()[..., 0], image)
    assert list(feature["image/height"].int64_list.value) == [8]


class Memory(FileSystem):
    """A file system of addresses, as that of a bucket is."""

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


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("format", results.FORMATS)
def test_addresses_of_another_file_system(network, by_hand, tmp_path, monkeypatch, format, objects):
    monkeypatch.setattr(Memory, "files", {})
    monkeypatch.setattr(Memory, "renamed", [])
    if objects:
        monkeypatch.setattr(storage, "_OBJECT_STORES", ("memory",))
    expected = write_set(tmp_path)
    for path in tmp_path.rglob("*.png"):
        Memory.files[f"memory://bucket/{path.relative_to(tmp_path)}"] = path.read_bytes()
    Memory.files["memory://bucket/small.keras"] = network.read_bytes()
    assert handler.model_facts("memory://bucket/small.keras").num_classes == 3
    source = bulk.ImageFiles("memory://bucket/images/**.png", labels=RULES)
    for _ in range(2):
        done = bulk.predict_many(
            "memory://bucket/small.keras",
            source,
            "memory://bucket/out",
            format=format,
            progress=False,
        )
        np.testing.assert_array_equal(done.confusion, expected)
        assert (done.output, done.images) == ("memory://bucket/out", 6)
    written = {path for path in Memory.files if path.startswith("memory://bucket/out/")}
    assert not any(storage.is_draft(path) for path in written)
    assert set(Memory.renamed) == (set() if objects else written)
    if format == "png":
        assert "memory://bucket/out/classes/folder 1/3.png" in written


def test_a_network_at_an_address(network, monkeypatch):
    monkeypatch.setattr(Memory, "files", {"memory://bucket/a.keras": network.read_bytes()})
    assert handler.open_model("memory://bucket/a.keras").num_classes == 3
    with pytest.raises(ValueError, match=r"memory://bucket/b\.keras: can't be read"):
        handler.model_facts("memory://bucket/b.keras")


def test_the_handler_in_a_pipeline_of_ones_own(network, by_hand):
    images = [np.full(shape, 150, np.uint8) for shape in ((6, 8, 3), (8, 6, 3), (6, 8, 3))]
    with apache_beam.Pipeline(runner="FnApiRunner") as pipe:
        found = (
            pipe
            | apache_beam.Create(list(enumerate(images)))
            | RunInference(KeyedModelHandler(bulk.SegmentationHandler(network)))
            | apache_beam.Map(lambda pair: (pair[0], pair[1].inference.shape))
        )
        expected = [(index, image.shape[:2]) for index, image in enumerate(images)]
        assert_that(found, equal_to(expected))


def test_a_runner_behind_the_job_api(network, by_hand, tmp_path):
    """As Flink's and Spark's are: a job server, and workers that ask for their work."""
    expected = write_set(tmp_path)
    flags = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
    done = predict(network, tmp_path, beam_options=flags)
    np.testing.assert_array_equal(done.confusion, expected)


def test_without_labels_and_with_more_images_later(network, by_hand, tmp_path):
    write_set(tmp_path, 2)
    done = predict(network, tmp_path, labels=())
    assert (done.images, done.confusion) == (2, None)
    write_set(tmp_path, 4)
    assert predict(network, tmp_path, labels=()).images == 4
    # A result counts only while its image is there.
    (tmp_path / "images/folder 0/0.png").unlink()
    assert predict(network, tmp_path, labels=()).images == 3


@pytest.mark.parametrize("output", ["out", "images"])
def test_results_among_the_images_are_no_images(network, by_hand, tmp_path, output):
    write_set(tmp_path, 4)
    if output == "out":
        source = bulk.ImageFiles(f"{tmp_path}/**.png")
        shutil.rmtree(tmp_path / "labels")
    else:
        source = bulk.ImageFiles(f"{tmp_path}/images/**.png")
    for _ in range(2):
        done = bulk.predict_many(network, source, tmp_path / output, progress=False)
        assert (done.images, done.failures) == (4, [])
        assert source.settled().count(str(tmp_path / output)) == 4


def test_what_is_a_result():
    for path in ("classes/a/b.png", "parts/1f.tfrecord", "classes-00000-of-00002.tfrecord"):
        assert results.is_result(f"gs://b/out/{path}", "gs://b/out")
        assert not results.is_result(f"gs://b/{path}", "gs://b/out")
    for path in ("images/a.png", "classes/a.jpg", "val.tfrecord"):
        assert not results.is_result(f"gs://b/out/{path}", "gs://b/out")


def test_records_among_the_results_are_no_images(network, by_hand, tmp_path):
    write_set(tmp_path, 1)
    image = (tmp_path / "images/folder 0/0.png").read_bytes()
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as file:
        file.write(example(**{"image/encoded": image, "image/filename": b"a.png"}))
    source = bulk.TFRecords(f"{tmp_path}/**.tfrecord")
    for _ in range(2):
        done = bulk.predict_many(
            network, source, tmp_path / "out", format="tfrecord", progress=False
        )
        assert (done.images, done.failures) == (1, [])


SCRIPT = """
import os, signal, sys
from keras_psp import beam
from keras_psp.beam import handler, results
from keras_psp.files import written_aside

network, root, kill = sys.argv[1], sys.argv[2], int(sys.argv[3])
write, calls, classes = results.write_bytes, [], handler.Segmenter.classes

def write_bytes(path, data):
    calls.append(path)
    if len(calls) == kill:  # in the middle of writing
        with written_aside(path) as draft:
            draft.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)

def counted(self, images):
    with open(f"{root}/predicted", "a") as file:
        file.write("." * len(images))
    return classes(self, images)

results.write_bytes, handler.Segmenter.classes = write_bytes, counted
source = beam.ImageFiles(f"{root}/images/**.png", labels=[("images/", "labels/")])
done = beam.predict_many(network, source, f"{root}/out", batch_size=1, progress=False)
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_counts_each_image_once(tmp_path):
    scenes = GeneratedScenes(image_size=(48, 64), counts={"val": 24})
    images, masks = scenes.arrays("val", progress=False)
    for kind, arrays in (("images", images), ("labels", masks)):
        (tmp_path / kind).mkdir()
        for index, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / kind / f"{index:02d}.png")
    (tmp_path / "images/05.png").write_bytes(b"")
    whole = (tmp_path / "images/17.png").read_bytes()
    (tmp_path / "images/17.png").write_bytes(whole[: len(whole) // 2])
    model = keras_psp.PSPNet(
        scenes.num_classes,
        backbone=keras_psp.DilatedResNet(18, stem_filters=(8,)),
        bin_sizes=(1, 2),
    )
    model.save(tmp_path / "small.keras")

    def start(kill):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "small.keras"), str(tmp_path)]
        return subprocess.run([*command, str(kill)], capture_output=True, text=True)

    killed = start(10)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/classes").glob("*.png")}
    assert len(written) == 9 and not (tmp_path / "out/summary.json").exists()
    assert list((tmp_path / "out/classes").glob(".*"))  # half of the tenth
    finished = start(0)
    assert finished.returncode == 0, finished.stderr[-2000:]

    # The tenth was predicted twice, its result having been lost; no other.
    assert (tmp_path / "predicted").stat().st_size == 22 + 1
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert not list((tmp_path / "out").rglob(".*"))
    expected = np.zeros((scenes.num_classes,) * 2, np.int64)
    segmenter = Segmenter(keras.models.load_model(tmp_path / "small.keras"), batch_size=1)
    for index in set(range(24)) - {5, 17}:
        (classes,) = segmenter.classes([images[index]])
        np.testing.assert_array_equal(read_mask(tmp_path / f"out/classes/{index:02d}.png"), classes)
        counted = masks[index] != 255
        np.add.at(expected, (masks[index][counted], classes[counted]), 1)
    np.testing.assert_array_equal(np.load(tmp_path / "out/confusion.npy"), expected)
    failed = [json.loads(line) for line in (tmp_path / "out/failed.jsonl").open()]
    assert [failure["name"] for failure in failed] == ["05", "17"]
    assert "the file is empty" in failed[0]["reason"] and "can't be read" in failed[1]["reason"]


def test_bad_examples_are_named_and_the_rest_goes_on(network, by_hand, tmp_path):
    write_set(tmp_path, 8)

    def place(kind, index):
        return tmp_path / kind / f"folder {index % 2}" / f"{index}.png"

    place("images", 0).write_bytes(b"")
    place("images", 1).write_text("no picture")
    Image.fromarray(np.zeros((3, 8), np.uint8)).save(place("labels", 2))
    Image.fromarray(np.full((8, 6), 7, np.uint8)).save(place("labels", 3))
    place("labels", 4).unlink()
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(place("labels", 5))
    for kind, shape in (("images", (3, 8, 3)), ("labels", (3, 8))):
        Image.fromarray(np.zeros(shape, np.uint8)).save(place(kind, 6))
    done = predict(network, tmp_path)
    assert done.images == 1
    reasons = {failure["name"]: failure["reason"] for failure in done.failures}
    for index, message in enumerate(
        (
            "0.png: the file is empty; replace it.",
            "1.png: can't be read (cannot identify image file",
            "2.png: label is 8x3 but its image is 8x6; labels must have their image's size.",
            "3.png: label value 7 is neither a class (0 to 2) nor ignore_class (255)",
            "4.png: can't be read (No such file or directory); look for the file again.",
            "5.png: label has mode RGB",
            "prediction failed: images of less than 4 rows are too small",
        )
    ):
        assert message in reasons[f"folder {index % 2}/{index}"], index
    assert json.loads((tmp_path / "out/summary.json").read_text())["failed"] == 7
    # Mended, they are tried again, and the file of failures is written anew.
    expected = write_set(tmp_path, 8)
    again = predict(network, tmp_path)
    assert (again.images, again.failures) == (8, [])
    np.testing.assert_array_equal(again.confusion, expected)
    assert (tmp_path / "out/failed.jsonl").read_text() == ""


def test_images_of_one_name_have_no_result(network, by_hand, tmp_path):
    write_set(tmp_path, 2)
    shutil.copy(tmp_path / "images/folder 0/0.png", tmp_path / "images/folder 0/0.bmp.png")
    os.rename(tmp_path / "images/folder 0/0.bmp.png", tmp_path / "images/folder 0/0.webp")
    source = bulk.ImageFiles(f"{tmp_path}/images/**")
    done = bulk.predict_many(network, source, tmp_path / "out", progress=False)
    assert done.images == 1
    assert [failure["name"] for failure in done.failures] == ["folder 0/0"] * 2
    assert "its result would have the name of" in done.failures[0]["reason"]
    # Nor one that comes later and would replace a result.
    shutil.copy(tmp_path / "images/folder 1/1.png", tmp_path / "images/folder 1/1.webp")
    (tmp_path / "images/folder 1/1.png").unlink()
    done = bulk.predict_many(network, source, tmp_path / "out", progress=False)
    assert "the result of its name is that of" in done.failures[-1]["reason"]


@pytest.mark.parametrize("labelled", [False, True])
def test_photographs_as_seen_and_examples_as_stored(tmp_path, labelled):
    picture = Image.fromarray(np.uint8([[[250, 0, 0], [0, 0, 0], [0, 0, 250]]] * 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.putalpha(0)
    picture.save(tmp_path / "clear.png")
    deep = np.uint16([[0, 257, 65535]] * 2)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "label.png")
    values = ImagePairs({}, class_names=CLASSES, ignore_class=255, title="a test")

    def red(name):
        item = sources.Item(name, str(tmp_path / name), str(tmp_path / "label.png"))
        found = sources.load(item, values if labelled else None)
        return found.reason if isinstance(found, bulk.Failure) else found[0][..., 0].tolist()

    if labelled:
        assert red("turned.png") == red("clear.png") == [[250, 0, 0]] * 2
        assert "deep.png: image has mode I;16 (more than 8 bits a channel)" in red("deep.png")
    else:
        assert red("turned.png") == [[250, 250], [0, 0], [0, 0]]
        assert red("clear.png") == [[255] * 3] * 2
        assert red("deep.png") == [[0, 1, 255]] * 2
        (tmp_path / "text.png").write_text("hello")
        assert red("text.png").startswith(f"{tmp_path}/text.png: is text or a document")


def test_names_that_are_too_long_fail_alone(network, by_hand, tmp_path):
    write_set(tmp_path, 1)
    image = tmp_path / "images/folder 0/0.png"
    longest = "a" * 246  # with .png 250 of 255 bytes; the draft's name has more than the file's
    for name in (f"{longest}.png", "b" * 255):
        shutil.copy(image, tmp_path / "images" / name)
    source = bulk.ImageFiles(f"{tmp_path}/images/**")
    for _ in range(2):
        done = bulk.predict_many(network, source, tmp_path / "out", progress=False)
        assert done.images == 2
        (failure,) = done.failures
        assert failure["name"] == "b" * 255
        assert failure["reason"] == (
            f"{tmp_path}/images/{'b' * 255}: its result's name, {'b' * 255}.png, is too long for "
            "the file system; shorten it."
        )
    assert (tmp_path / f"out/classes/{longest}.png").exists()
    assert not list((tmp_path / "out").rglob(".*"))


def test_no_other_mistake_of_the_disk_is_an_images(tmp_path):
    (tmp_path / "classes").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        results.PNGs(str(tmp_path)).add("a/b", "a/b.jpg", np.zeros((2, 2), np.uint8), ())


def test_rules_that_lead_to_no_label(network, by_hand, tmp_path):
    write_set(tmp_path, 1)
    done = predict(network, tmp_path, labels=[("pictures/", "labels/")])
    assert "the rules for labels don't lead to another path" in done.failures[0]["reason"]


def example(**features):
    given = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=given)).SerializeToString()


def test_tfrecords(network, by_hand, tmp_path):
    expected = write_set(tmp_path, 3)
    plain, packed = tmp_path / "a.tfrecord", tmp_path / "b.tfrecord.gz"
    with tf.io.TFRecordWriter(str(plain)) as a, tf.io.TFRecordWriter(str(packed), "GZIP") as b:
        for index in range(3):
            path = f"folder {index % 2}/{index}.png"
            features = {
                "image/encoded": (tmp_path / "images" / path).read_bytes(),
                "image/filename": path.encode(),
                "image/segmentation/class/encoded": (tmp_path / "labels" / path).read_bytes(),
            }
            (b if index == 2 else a).write(example(**features))
        b.write(example(**{**features, "image/filename": b"../2.png"}))
        b.write(example(**{"image/filename": b"x.png"}))
        b.write(example(**{**features, "image/filename": b"2\0.png"}))
        b.write(b"\xff")
    source = bulk.TFRecords([str(plain), str(packed)], labelled=True)
    done = bulk.predict_many(
        network, source, tmp_path / "out", format="tfrecord", shards=1, progress=False
    )
    assert done.images == 3
    np.testing.assert_array_equal(done.confusion, expected)
    reasons = [failure["reason"] for failure in done.failures]
    assert len(reasons) == 4
    for message in (
        "'../2' is no name for a result; give another.",
        "b.tfrecord.gz#2: has no image/encoded; write the record again.",
        r"'2\x00' is no name for a result; give another.",
        "b.tfrecord.gz#4: no tf.train.Example",
    ):
        assert any(message in reason for reason in reasons), (message, reasons)


@pytest.mark.parametrize("format", results.FORMATS)
def test_records_of_one_name_have_no_result(network, by_hand, tmp_path, format):
    """Else the matrix would count one of them and the file hold another."""
    paths = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]

    def write(*files):
        for path, names in zip(paths, files, strict=True):
            with tf.io.TFRecordWriter(str(path)) as file:
                for value, name in names.items():
                    png = io.BytesIO()
                    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(png, "png")
                    features = {"image/encoded": png.getvalue(), "image/filename": name}
                    file.write(example(**features))

    def predict_all():
        source = bulk.TFRecords([str(path) for path in paths])
        done = bulk.predict_many(network, source, tmp_path / "out", format=format, progress=False)
        return done.images, [(failure["name"], failure["reason"]) for failure in done.failures]

    write({0: b"one.png", 1: b"two.png"}, dict.fromkeys(range(2, 8), b"same.png"))
    images, failures = predict_all()
    assert images == 2 and [name for name, _ in failures] == ["same"] * 6
    a, b = paths
    assert failures[0][1] == (
        f"{b}#0: its result would have the name of {b}#1, {b}#2, {b}#3 and 2 more's; rename one "
        "of them."
    )
    assert not (tmp_path / "out/classes/same.png").exists()
    # A name that is shared only later has a result already, which doesn't count.
    write({0: b"one.png", 1: b"two.png"}, {2: b"two.jpg"})
    images, failures = predict_all()
    assert images == 1 and [reason for _, reason in failures] == [
        f"{a}#1: its result would have the name of {b}#0's; rename one of them.",
        f"{b}#0: its result would have the name of {a}#1's; rename one of them.",
    ]
    write({0: b"one.png", 1: b"two.png"}, {})
    assert predict_all() == (2, [])


def test_a_damaged_tfrecord_file_gives_what_was_before(tmp_path):
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as file:
        for value in (b"one", b"two", b"three"):
            file.write(value)
    assert list(records.read_records(str(path))) == [b"one", b"two", b"three"]
    assert records.to_bytes([b"one", b"two", b"three"]) == path.read_bytes()
    damaged = bytearray(path.read_bytes())
    damaged[16 + 3 + 12] ^= 1  # the first byte of "two"
    path.write_bytes(damaged)
    found = records.read_records(str(path))
    assert next(found) == b"one"
    with pytest.raises(ValueError, match="record 2 is cut or damaged; write the file again"):
        next(found)
    (failed,) = [item for item in sources.record_items(str(path), False) if "#1" in item.name]
    assert "record 2 is cut" in failed.reason


def test_sizes_go_apart_and_a_bad_image_fails_alone():
    segmenter = Threshold(None)
    images = [np.full(shape, 150, np.uint8) for shape in ((6, 8, 3), (2, 8, 3), (6, 8, 3))]
    found = bulk.SegmentationHandler("x.keras").run_inference(images, segmenter)
    assert segmenter.sizes == [[(6, 8, 3)] * 2, [(2, 8, 3)]]
    assert [type(result.inference).__name__ for result in found] == [
        "ndarray",
        "Failure",
        "ndarray",
    ]
    np.testing.assert_array_equal(found[2].inference, np.ones((6, 8)))
    segmenter = Threshold(None)
    found = handler._predicted(segmenter, [images[0], images[1]])
    assert found[1] == bulk.Failure(
        "prediction failed: images of less than 4 rows are too small"
    ) and isinstance(found[0], np.ndarray)


def test_threads_take_turns_at_a_network(network):
    image = np.full((48, 64, 3), 99, np.uint8)
    with ThreadPoolExecutor(4) as threads:
        shared = bulk.SegmentationHandler(network).load_model()
        found = list(threads.map(lambda _: shared.classes([image])[0], range(12)))
    assert {classes.shape for classes in found} == {(48, 64)}


def test_batches_of_one_size():
    images = [np.zeros(shape, np.uint8) for shape in ((6, 8, 3), (2, 8, 3), (6, 8, 3))]
    batches = pipeline._OneSize(2)
    batches.start_bundle()
    elements = [(index, image) for index, image in enumerate(images)]
    full = [batch for element in elements for batch in batches.process(element)]
    assert [[index for index, _ in batch] for batch in full] == [[0, 2]]
    (rest,) = batches.finish_bundle()
    assert [index for index, _ in rest.value] == [1]


def test_another_job_in_the_folder_is_refused(network, by_hand, tmp_path):
    write_set(tmp_path, 1)
    predict(network, tmp_path)
    with pytest.raises(ValueError, match="holds a job with format='png', not 'tfrecord'; choose"):
        predict(network, tmp_path, format="tfrecord")
    with pytest.raises(ValueError, match="holds a job with segmenter="):
        predict(network, tmp_path, scales=(0.5, 1.0))


def test_defaults_given_or_not_are_the_same_job(network, by_hand, tmp_path):
    write_set(tmp_path, 1)
    predict(network, tmp_path)
    given = {"scales": np.ones(1), "flip": 0, "crop": None, "overlap": 1 / 3, "base_size": None}
    assert predict(network, tmp_path, batch_size=2, **given).images == 1


def test_wrong_options_leave_the_folder_to_the_right_ones(network, by_hand, tmp_path):
    write_set(tmp_path, 1)
    with pytest.raises(ValueError, match="crop is 0"):
        predict(network, tmp_path, crop=0)
    with pytest.raises(TypeError, match="scale"):
        predict(network, tmp_path, scale=2)
    assert predict(network, tmp_path, crop=np.int64(49)).images == 1


def test_another_number_of_shards_replaces_those_before(network, by_hand, tmp_path):
    write_set(tmp_path, 4)
    for shards in (3, 2):
        predict(network, tmp_path, format="tfrecord", shards=shards)
        found = sorted((tmp_path / "out").glob("classes-*"))
        assert [path.name for path in found] == [
            f"classes-{index:05d}-of-{shards:05d}.tfrecord" for index in range(shards)
        ]
        assert sum(len(list(records.read_records(str(path)))) for path in found) == 4


def test_labels_by_a_lookup(network, by_hand, tmp_path):
    expected = write_set(tmp_path, 2)
    for path in (tmp_path / "labels").rglob("*.png"):
        values = read_mask(path)
        Image.fromarray(np.where(values == 255, 0, values + 1).astype(np.uint8)).save(path)
    done = predict(network, tmp_path, label_lookup={0: 255, 1: 0, 2: 1, 3: 2})
    np.testing.assert_array_equal(done.confusion, expected)
    with pytest.raises(ValueError, match="label_lookup gives value 1 the class 3, but there are 3"):
        predict(network, tmp_path, label_lookup={1: 3})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "gif"}, "format='gif' is unknown; choose png or tfrecord"),
        ({"shards": 0}, "shards is 0; it must be an integer >= 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"crop": 0}, "crop is 0; it must be an integer >= 1"),
        ({"scales": ()}, r"scales=\(\); give one or more factors above 0"),
        ({"overlap": 1}, "overlap=1; it must be from 0 to below 1"),
        (
            {"workers": 2, "beam_options": ["--runner=FlinkRunner"]},
            "workers=2 is for the local runner; FlinkRunner has options of its own",
        ),
        ({"source": bulk.ImageFiles([])}, "patterns is empty; give one, as 'photos/"),
        ({"source": bulk.TFRecords([])}, "patterns is empty; give one, as 'val-"),
        ({"source": bulk.ImageFiles("x/**", labels=[("", "y")])}, "labels replaces an empty text"),
        ({"source": bulk.ImageFiles("none/*.jpg")}, r"no image matches .*none/\*\.jpg"),
        ({"source": bulk.TFRecords("none/*")}, "no image matches"),
        ({"model": "nowhere.keras"}, r"nowhere\.keras: can't be read"),
        ({"model": "nowhere"}, "there is no such file, and there is no preset 'nowhere'"),
    ],
)
def test_arguments(network, tmp_path, arguments, message):
    given = {"model": network, "source": bulk.ImageFiles("none/*"), **arguments}
    with pytest.raises(ValueError, match=message):
        bulk.predict_many(output=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_the_network_may_be_a_trainings_folder(network, tmp_path):
    with pytest.raises(ValueError, match=r"neither a \.keras file nor a folder with best\.keras"):
        handler.model_facts(tmp_path)
    shutil.copy(network, tmp_path / "last.keras")
    facts = handler.model_facts(tmp_path)
    assert facts.model == str(tmp_path / "last.keras")
    assert (facts.num_classes, facts.class_names) == (3, CLASSES)
    assert handler.open_model(str(tmp_path)).num_classes == 3
    (tmp_path / "best.keras").write_text("no archive")
    with pytest.raises(ValueError, match=r"best\.keras: no \.keras file of a PSPNet"):
        handler.model_facts(tmp_path)
    preset = handler.model_facts("pspnet_r50-d8_512x512_160k_ade20k")
    assert (preset.num_classes, preset.class_names[0]) == (150, "wall")


def test_lists(network, by_hand, tmp_path):
    expected = write_set(tmp_path, 2)
    listing = tmp_path / "val.txt"
    path = "folder {0}/{0}.png"
    listing.write_text(
        "".join(f"images/{path}\t/labels/{path}\n\n".format(index) for index in range(2))
    )
    done = bulk.predict_many(
        network, bulk.ImageList(listing, tmp_path), tmp_path / "out", progress=False
    )
    np.testing.assert_array_equal(done.confusion, expected)
    assert (tmp_path / "out/classes/images/folder 1/1.png").exists()
    for text, message in (
        ("a b c\n", "line 1: 'a b c'; every line must be `image label`"),
        ("a b\nc\n", "line 2: 'c'; every line must be"),
        ("\n", "lists nothing; write `image label` lines into it"),
    ):
        listing.write_text(text)
        with pytest.raises(ValueError, match=message):
            bulk.ImageList(listing, tmp_path).pairs()


def test_a_full_or_closed_disk_stops_the_job_in_one_sentence(network, by_hand, tmp_path):
    write_set(tmp_path, 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/classes").write_text("in the way")
    with pytest.raises(bulk.JobError, match=r"Beam stopped: .*Not a directory.* goes on with it\."):
        predict(network, tmp_path)


def test_names_and_paths():
    name = sources.result_name
    assert name("/data/photos/a b/c.JPG", "/data/photos") == "a b/c"
    assert name("gs://bucket/photos/a/c.v2.png", "gs://bucket/photos/") == "a/c.v2"
    assert name("scene.0001", "") == "scene.0001"
    assert sources._folder_of(["/d/a/*.png", "/d/a/b/**.png"]) == "/d/a"
    assert sources._folder_of(["gs://bucket/a/**"]) == "gs://bucket/a"
    rules = [("images/", "annotations/"), (".jpg", ".png")]
    # The last one: a folder above may have the same name.
    assert sources.label_path("/images/ade/images/v/1.jpg", rules) == (
        "/images/ade/annotations/v/1.png"
    )
    assert sources.label_path("/ade/1.bmp", rules) is None
    assert sources.unsafe("../a") and sources.unsafe("/a") and sources.unsafe("a/.b")
    assert not sources.unsafe("a/b.c")


def test_more_classes_than_a_byte_holds(tmp_path):
    store = results.PNGs(str(tmp_path))
    classes = np.arange(300, dtype=np.uint16).reshape(10, 30)
    (record,) = store.add("a", "a.jpg", classes, (1, 299, 7))
    np.testing.assert_array_equal(np.asarray(Image.open(record.file)), classes)
    assert list(store.read(record.file)) == [record]
    Image.fromarray(classes).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"other\.png wasn't written by this job; remove it"):
        next(store.read(str(tmp_path / "other.png")))


def test_progress_line():
    assert job._line(20, 120, 4.0) == "20 of 120 images, 4.0 a second, 25 s left"
    assert job._line(20, None, 4.0) == "20 images, 4.0 a second"


@pytest.mark.slow
def test_processes_of_one_machine(network, tmp_path):
    write_set(tmp_path, 0)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(6):
        image = rng.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{index}.png")
    one = predict(network, tmp_path, "one", labels=())
    two = predict(network, tmp_path, "two", labels=(), workers=2, share_model=True)
    assert one.images == two.images == 6
    for path in sorted((tmp_path / "one/classes").glob("*.png")):
        np.testing.assert_array_equal(
            read_mask(path), read_mask(tmp_path / "two/classes" / path.name)
        )


def test_bytes_are_whole_or_absent(tmp_path):
    path = str(tmp_path / "a/b/c.png")
    storage.write_bytes(path, b"one")
    storage.write_bytes(path, b"two")
    assert storage.read_bytes(path) == b"two" and storage.matches(f"{tmp_path}/**.png") == [path]
    draft = Path(tmp_path / "a/.d.png-abcdefgh/new.png")
    draft.parent.mkdir()
    draft.write_bytes(b"ha")
    assert storage.matches(f"{tmp_path}/**.png") == [path]
    cut = tmp_path / f"a/.{'e' * 40}-abcdefgh"  # of a name whose suffix doesn't fit
    cut.mkdir()
    own = tmp_path / "a/.own-abcdefgh"
    own.mkdir()
    storage.sweep(str(tmp_path))
    assert not draft.parent.exists() and not cut.exists()
    assert own.exists() and Path(path).exists()


def test_messages_of_bytes_name_their_file():
    with pytest.raises(ValueError, match=r"^gs://a/b\.jpg: can't be read \(cannot identify"):
        sources.decode_image(b"x", "gs://a/b.jpg")
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(file, "png")
    with pytest.raises(ValueError, match=r"^gs://a/b\.png: label has mode RGB"):
        sources.decode_label(file.getvalue(), "gs://a/b.png")
