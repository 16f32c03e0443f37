import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

from keras_psp import beam
from keras_psp.beam import results


def test_is_result():
    for path in ("classes/a/b.png", "parts/1f.tfrecord", "classes-00000-of-00002.tfrecord"):
        assert results.is_result(f"gs://b/out/{path}", "gs://b/out")
        assert not results.is_result(f"gs://b/{path}", "gs://b/out")
    for path in ("images/a.png", "classes/a.jpg", "val.tfrecord"):
        assert not results.is_result(f"gs://b/out/{path}", "gs://b/out")


def test_result_records_among_the_source_files_are_not_predicted(
    write_set, example, network, by_hand, tmp_path
):
    write_set(1)
    image = (tmp_path / "images/folder 0/0.png").read_bytes()
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as file:
        file.write(example(**{"image/encoded": image, "image/filename": b"a.png"}))
    source = beam.TFRecords(f"{tmp_path}/**.tfrecord")
    for _ in range(2):
        done = beam.predict_many(
            source, network, tmp_path / "out", format="tfrecord", progress=False
        )
        assert (done.images, done.failures) == (1, [])


def test_other_errors_of_the_disk_are_raised(tmp_path):
    (tmp_path / "classes").write_text("not a folder")
    with pytest.raises(OSError, match=r"classes is a file, not a folder; choose another output"):
        results.PNGs(str(tmp_path)).add("a/b", "a/b.jpg", np.zeros((2, 2), np.uint8), ())


def test_more_than_256_classes(tmp_path):
    store = results.PNGs(str(tmp_path))
    classes = np.arange(300, dtype=np.uint16).reshape(10, 30)
    (record,) = store.add("a", "a.jpg", classes, (1, 299, 7))
    np.testing.assert_array_equal(np.asarray(Image.open(record.file)), classes)
    assert list(store.read(record.file)) == [record]
    Image.fromarray(classes).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"other\.png is damaged or wasn't written .*; remove"):
        next(store.read(str(tmp_path / "other.png")))


def test_a_damaged_result_is_named(tmp_path):
    store = results.PNGs(str(tmp_path))
    (record,) = store.add("a", "a.jpg", np.zeros((9, 9), np.uint8), (1, 2, 3))
    with open(record.file, "rb") as file:
        data = file.read()
    for place in range(len(data)):
        with open(record.file, "wb") as file:
            file.write(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            found = list(store.read(record.file))
        except ValueError:
            continue
        assert found == [record]
    for length in (0, 8, len(data) // 2):
        with open(record.file, "wb") as file:
            file.write(data[:length])
        with pytest.raises(ValueError, match=r"a\.png is damaged or wasn't written by this job"):
            list(store.read(record.file))
