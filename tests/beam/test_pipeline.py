import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

from keras_psp import beam
from keras_psp.beam import pipeline, records, results


def test_bad_images_are_listed_and_the_others_are_predicted(write_set, predict, by_hand, tmp_path):
    write_set(8)

    def place(kind, index):
        return tmp_path / kind / f"folder {index % 2}" / f"{index}.png"

    place("images", 0).write_bytes(b"")
    place("images", 1).write_text("not an image")
    Image.fromarray(np.zeros((3, 8), np.uint8)).save(place("labels", 2))
    Image.fromarray(np.full((8, 6), 7, np.uint8)).save(place("labels", 3))
    place("labels", 4).unlink()
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(place("labels", 5))
    for kind, shape in (("images", (3, 8, 3)), ("labels", (3, 8))):
        Image.fromarray(np.zeros(shape, np.uint8)).save(place(kind, 6))
    done = predict()
    assert done.images == 1
    reasons = {failure["name"]: failure["reason"] for failure in done.failures}
    for index, message in enumerate(
        (
            "0.png: is empty; copy or download it again.",
            "1.png: is a text or document instead of an image (it begins with 'not an image').",
            "2.png: mask is 8x3 but its image is 8x6; masks must have their image's size.",
            "3.png: label value 7 is neither a class (0 to 2) nor ignore_class (255)",
            "4.png: can't be read (No such file or directory); check the path.",
            "5.png: label has mode RGB",
            "prediction failed: images of less than 4 rows are too small",
        )
    ):
        assert message in reasons[f"folder {index % 2}/{index}"], index
    assert json.loads((tmp_path / "out/summary.json").read_text())["failed"] == 7
    # After a repair they are retried, and failed.jsonl is replaced.
    expected = write_set(8)
    again = predict()
    assert (again.images, again.failures) == (8, [])
    np.testing.assert_array_equal(again.confusion, expected)
    assert (tmp_path / "out/failed.jsonl").read_text() == ""


def test_images_with_the_same_name_have_no_result(write_set, network, by_hand, tmp_path):
    write_set(2)
    shutil.copy(tmp_path / "images/folder 0/0.png", tmp_path / "images/folder 0/0.bmp.png")
    os.rename(tmp_path / "images/folder 0/0.bmp.png", tmp_path / "images/folder 0/0.webp")
    source = beam.ImageFiles(f"{tmp_path}/images/**")
    done = beam.predict_many(source, network, tmp_path / "out", progress=False)
    assert done.images == 1
    assert [failure["name"] for failure in done.failures] == ["folder 0/0"] * 2
    assert "its result would have the same name as that of" in done.failures[0]["reason"]
    # Nor one that comes later and would replace a result.
    shutil.copy(tmp_path / "images/folder 1/1.png", tmp_path / "images/folder 1/1.webp")
    (tmp_path / "images/folder 1/1.png").unlink()
    done = beam.predict_many(source, network, tmp_path / "out", progress=False)
    assert "the result of this name belongs to" in done.failures[-1]["reason"]


def test_only_the_image_with_too_long_a_name_fails(write_set, network, by_hand, tmp_path):
    write_set(1)
    image = tmp_path / "images/folder 0/0.png"
    longest = "a" * 246  # with .png 250 of 255 bytes; the draft's name has more than the file's
    for name in (f"{longest}.png", "b" * 255):
        shutil.copy(image, tmp_path / "images" / name)
    source = beam.ImageFiles(f"{tmp_path}/images/**")
    for _ in range(2):
        done = beam.predict_many(source, network, tmp_path / "out", progress=False)
        assert done.images == 2
        (failure,) = done.failures
        assert failure["name"] == "b" * 255
        assert failure["reason"] == (
            f"{tmp_path}/images/{'b' * 255}: the name of its result, {'b' * 255}.png, is too long "
            "for the file system; shorten it."
        )
    assert (tmp_path / f"out/classes/{longest}.png").exists()
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("format", results.FORMATS)
def test_records_with_the_same_name_have_no_result(example, network, by_hand, tmp_path, format):
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
        source = beam.TFRecords([str(path) for path in paths])
        done = beam.predict_many(source, network, tmp_path / "out", format=format, progress=False)
        return done.images, [(failure["name"], failure["reason"]) for failure in done.failures]

    write({0: b"one.png", 1: b"two.png"}, dict.fromkeys(range(2, 8), b"same.png"))
    images, failures = predict_all()
    assert images == 2 and [name for name, _ in failures] == ["same"] * 6
    a, b = paths
    assert failures[0][1] == (
        f"{b}#0: its result would have the same name as that of {b}#1, {b}#2, {b}#3 and 2 more; "
        "rename one."
    )
    assert not (tmp_path / "out/classes/same.png").exists()
    # A name that is shared only later has a result already, which doesn't count.
    write({0: b"one.png", 1: b"two.png"}, {2: b"two.jpg"})
    images, failures = predict_all()
    assert images == 1 and [reason for _, reason in failures] == [
        f"{a}#1: its result would have the same name as that of {b}#0; rename one.",
        f"{b}#0: its result would have the same name as that of {a}#1; rename one.",
    ]
    write({0: b"one.png", 1: b"two.png"}, {})
    assert predict_all() == (2, [])


def test_batches_have_one_size():
    images = [np.zeros(shape, np.uint8) for shape in ((6, 8, 3), (2, 8, 3), (6, 8, 3))]
    batches = pipeline._OneSize(2)
    batches.start_bundle()
    elements = [(index, image) for index, image in enumerate(images)]
    full = [batch for element in elements for batch in batches.process(element)]
    assert [[index for index, _ in batch] for batch in full] == [[0, 2]]
    (rest,) = batches.finish_bundle()
    assert [index for index, _ in rest.value] == [1]


def test_another_number_of_shards_replaces_the_old_ones(write_set, predict, by_hand, tmp_path):
    write_set(4)
    for shards in (3, 2):
        predict(format="tfrecord", shards=shards)
        shards_written = sorted((tmp_path / "out").glob("classes-*"))
        assert [path.name for path in shards_written] == [
            f"classes-{index:05d}-of-{shards:05d}.tfrecord" for index in range(shards)
        ]
        assert sum(len(list(records.read_records(str(path)))) for path in shards_written) == 4
