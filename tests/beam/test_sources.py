import io
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

from keras_psp import beam
from keras_psp.beam import sources
from keras_psp.data.pairs import ImagePairs

CLASSES = ("sky", "sea", "boat")


@pytest.mark.parametrize("output", ["out", "images"])
def test_results_among_the_images_are_not_predicted(write_set, network, by_hand, tmp_path, output):
    write_set(4)
    if output == "out":
        source = beam.ImageFiles(f"{tmp_path}/**.png")
        shutil.rmtree(tmp_path / "labels")
    else:
        source = beam.ImageFiles(f"{tmp_path}/images/**.png")
    for _ in range(2):
        done = beam.predict_many(source, network, tmp_path / output, progress=False)
        assert (done.images, done.failures) == (4, [])
        assert source.resolved().count(str(tmp_path / output)) == 4


def test_every_pattern_must_match(write_set, network, tmp_path):
    """Else the images of one with a typing error would be missing without a word."""
    write_set(1)

    def predict(*patterns):
        source = beam.ImageFiles([f"{tmp_path}/{pattern}" for pattern in patterns])
        return beam.predict_many(source, network, tmp_path / "out", progress=False)

    for pattern, message in (
        ("imgs/**.png", r"no image matches .*imgs/\*\*\.png; use `\*\*` to .* `\*` doesn't\.$"),
        ("images/a[1]/*.png", r"subfolders, which `\*` doesn't, and \[\[\] for a \[ in a name\.$"),
        ("images", r"images is a folder; give a pattern of its files: .*images/\*\*$"),
    ):
        with pytest.raises(ValueError, match=message):
            predict("images/**.png", pattern)
    records = beam.TFRecords([str(network), f"{tmp_path}/none*"]).resolved()
    with pytest.raises(ValueError, match=r"no image matches .*none\*"):
        records.count("")


def test_the_name_of_a_file_may_have_brackets(write_set, network, by_hand, tmp_path):
    """A shell replaces `*.png` by the names of the files."""
    write_set(1)
    image = tmp_path / "images/folder 0/0 [1].png"
    (tmp_path / "images/folder 0/0.png").rename(image)
    done = beam.predict_many(
        beam.ImageFiles([str(image)]), network, tmp_path / "out", progress=False
    )
    assert (done.images, done.failures) == (1, [])
    assert (tmp_path / "out/classes/0 [1].png").exists()


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(ValueError, match=r"caf\\xe9\.png: its name isn't UTF-8, as Beam needs it"):
        beam.ImageFiles(f"{tmp_path}/*.png").resolved().count("")


@pytest.mark.parametrize("labeled", [False, True])
def test_images_are_read_as_everywhere(tmp_path, labeled):
    image = Image.fromarray(np.uint8([[[250, 0, 0], [0, 0, 0], [0, 0, 250]]] * 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    image.putalpha(0)
    image.save(tmp_path / "clear.png")
    deep = np.uint16([[0, 257, 65535]] * 2)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "label.png")
    values = ImagePairs({}, class_names=CLASSES, ignore_class=255, title="a test")

    def red(name):
        item = sources.Item(name, str(tmp_path / name), str(tmp_path / "label.png"))
        try:
            image, _ = sources.load(item, values if labeled else None)
        except ValueError as error:
            return str(error)
        return image[..., 0].tolist()

    if labeled:
        assert "mask is 3x2 but its image is 2x3 if turned upright" in red("turned.png")
    else:
        assert red("turned.png") == [[250, 250], [0, 0], [0, 0]]
    assert red("clear.png") == [[255] * 3] * 2
    assert red("deep.png") == [[0, 1, 255]] * 2
    (tmp_path / "text.png").write_text("hello")
    assert red("text.png").startswith(
        f"{tmp_path}/text.png: is a text or document instead of an image"
    )


def test_replacements_that_do_not_apply(write_set, predict, by_hand):
    write_set(1)
    done = predict(labels=[("photos/", "labels/")])
    assert "the replacements for labels don't lead to another path" in done.failures[0]["reason"]


def test_tfrecords(write_set, example, network, by_hand, tmp_path):
    expected = write_set(3)
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
    source = beam.TFRecords([str(plain), str(packed)], labeled=True)
    done = beam.predict_many(
        source, network, tmp_path / "out", format="tfrecord", shards=1, progress=False
    )
    assert done.images == 3
    np.testing.assert_array_equal(done.confusion, expected)
    reasons = [failure["reason"] for failure in done.failures]
    assert len(reasons) == 4
    for message in (
        "'../2' can't be the name of a result; choose another.",
        "b.tfrecord.gz#2: image/encoded is missing; write the record again.",
        r"'2\x00' can't be the name of a result; choose another.",
        "b.tfrecord.gz#4: not a tf.train.Example",
    ):
        assert any(message in reason for reason in reasons), (message, reasons)


def test_lists(write_set, network, by_hand, tmp_path):
    expected = write_set(2)
    listing = tmp_path / "val.txt"
    path = "folder {0}/{0}.png"
    listing.write_text(
        "".join(f"images/{path}\t/labels/{path}\n\n".format(index) for index in range(2))
    )
    done = beam.predict_many(
        beam.ImageList(listing, tmp_path), network, tmp_path / "out", progress=False
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
            beam.ImageList(listing, tmp_path).pairs()
    listing.write_bytes("caf\u00e9.jpg".encode("latin-1"))
    with pytest.raises(ValueError, match=r"val\.txt: isn't UTF-8 text; save it as UTF-8"):
        beam.ImageList(listing, tmp_path).pairs()


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


def test_errors_name_the_file_of_the_bytes():
    def item(image, label=None):
        return sources.Item("b", "gs://a/b.jpg", "gs://a/b.png", (image, label))

    with pytest.raises(ValueError, match=r"^gs://a/b\.jpg: is a text or document"):
        sources.load(item(b"x"), None)
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(file, "png")
    with pytest.raises(ValueError, match=r"^gs://a/b\.png: label has mode RGB"):
        sources.load(item(file.getvalue(), file.getvalue()), ImagePairs({}, class_names=CLASSES))
