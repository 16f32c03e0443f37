import json
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.networks import tiny_backbone, tiny_pspnet

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

import keras_psp
from keras_psp import beam
from keras_psp.beam import results
from keras_psp.data import GeneratedScenes
from keras_psp.data.images import read_image
from keras_psp.data.label_files import read_mask
from keras_psp.prediction import Segmenter

CLASSES = ("sky", "sea", "boat")


@pytest.mark.parametrize("format", results.FORMATS)
def test_evaluates_all_images_and_writes_a_map_of_each(
    write_set, predict, by_hand, tmp_path, format
):
    expected = write_set()
    done = predict(format=format, shards=2)
    np.testing.assert_array_equal(done.confusion, expected)
    assert (done.images, done.failures, done.class_names) == (6, [], CLASSES)
    out = tmp_path / "out"
    np.testing.assert_array_equal(np.load(out / "confusion.npy"), expected)
    table = json.loads((out / "confusion.json").read_text())
    union = expected.sum(0) + expected.sum(1) - np.diag(expected)
    assert table["iou"]["sea"] == pytest.approx(expected[1, 1] / union[1])
    assert table["mean_iou"] == pytest.approx(np.mean(np.diag(expected) / union))
    assert (table["confusion"], table["ignore_class"]) == (expected.tolist(), 255)
    image = read_image(tmp_path / "images/folder 1/3.png")[..., 0] // 100
    if format == "png":
        np.testing.assert_array_equal(read_mask(out / "classes/folder 1/3.png"), image)
        return
    shards = [str(out / f"classes-0000{index}-of-00002.tfrecord") for index in range(2)]
    features = {}
    for record in tf.data.TFRecordDataset(shards).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        features[feature["image/filename"].bytes_list.value[0].decode()] = feature
    assert sorted(features) == [f"folder {index % 2}/{index}" for index in (0, 2, 4, 1, 3, 5)]
    feature = features["folder 1/3"]
    png = feature["image/segmentation/class/encoded"].bytes_list.value[0]
    np.testing.assert_array_equal(tf.io.decode_png(png).numpy()[..., 0], image)
    assert list(feature["image/height"].int64_list.value) == [8]


def test_a_portable_runner(write_set, predict, by_hand):
    """Flink and Spark work like this: a job server, and workers that fetch their work."""
    expected = write_set()
    flags = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
    done = predict(beam_options=flags)
    np.testing.assert_array_equal(done.confusion, expected)


def test_without_labels_and_with_more_images_later(write_set, predict, by_hand, tmp_path):
    write_set(2)
    done = predict(labels=())
    assert (done.images, done.confusion) == (2, None)
    write_set(4)
    assert predict(labels=()).images == 4
    # A result counts only while its image is there.
    (tmp_path / "images/folder 0/0.png").unlink()
    assert predict(labels=()).images == 3


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
done = beam.predict_many(source, network, f"{root}/out", batch_size=1, progress=False)
"""


@pytest.mark.slow
def test_a_killed_job_resumes_and_counts_each_image_once(tmp_path):
    scenes = GeneratedScenes(image_size=(48, 64), counts={"val": 24})
    images, masks = scenes.arrays("val", progress=False)
    for kind, arrays in (("images", images), ("labels", masks)):
        (tmp_path / kind).mkdir()
        for index, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / kind / f"{index:02d}.png")
    (tmp_path / "images/05.png").write_bytes(b"")
    whole = (tmp_path / "images/17.png").read_bytes()
    (tmp_path / "images/17.png").write_bytes(whole[: len(whole) // 2])
    model = tiny_pspnet(scenes.num_classes, backbone=tiny_backbone(), bin_sizes=(1, 2))
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

    # Only the tenth was predicted twice, since its result was lost.
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
    assert "is empty" in failed[0]["reason"] and "is truncated" in failed[1]["reason"]


def test_the_folder_of_another_job_is_refused(write_set, predict, by_hand):
    write_set(1)
    predict()
    with pytest.raises(ValueError, match="holds a job with format='png', not 'tfrecord'; choose"):
        predict(format="tfrecord")
    with pytest.raises(ValueError, match=r"holds a job with scales=\[1.0\], not \[0.5"):
        predict(scales=(0.5, 1.0))


def test_explicit_defaults_are_the_same_job(write_set, predict, by_hand):
    write_set(1)
    predict()
    given = {
        "scales": np.ones(1),
        "flip": np.bool_(False),
        "crop": None,
        "overlap": 1 / 3,
        "base_size": None,
    }
    assert predict(batch_size=2, **given).images == 1


def test_the_network_of_a_run_sees_images_at_their_size_in_training(write_set, network, tmp_path):
    write_set(1)
    run, image = tmp_path / "run", tmp_path / "images/folder 0/0.png"
    run.mkdir()
    shutil.copy(network, run / "best.keras")
    (run / "recipe.json").write_text(json.dumps({"image_size": [36, 48]}))
    expected = keras_psp.predict(image, run).classes
    for model in (run, run / "best.keras"):
        output = tmp_path / f"classes of {model.name}"
        done = beam.predict_many(beam.ImageFiles(str(image)), model, output, progress=False)
        assert done.failures == []  # of 6x8 pixels, too small for the network
        np.testing.assert_array_equal(read_mask(output / "classes/0.png"), expected)


def test_invalid_options_leave_no_settings_in_the_folder(write_set, predict, by_hand):
    write_set(1)
    with pytest.raises(ValueError, match="crop is 0"):
        predict(crop=0)
    with pytest.raises(TypeError, match="scale"):
        predict(scale=2)
    assert predict(crop=np.int64(49)).images == 1


def test_label_lookup(write_set, predict, by_hand, tmp_path):
    expected = write_set(2)
    for path in (tmp_path / "labels").rglob("*.png"):
        values = read_mask(path)
        Image.fromarray(np.where(values == 255, 0, values + 1).astype(np.uint8)).save(path)
    done = predict(label_lookup={0: 255, 1: 0, 2: 1, 3: 2})
    np.testing.assert_array_equal(done.confusion, expected)
    with pytest.raises(
        ValueError, match="label_lookup maps value 1 to class 3, but there are 3 classes"
    ):
        predict(label_lookup={1: 3})
    with pytest.raises(ValueError, match="label value is 300; it must be an integer from 0 to 255"):
        predict(label_lookup={300: 1})
    # Else label 1 would be class 0, and ignored as well.
    with pytest.raises(ValueError, match="ignore_class=0 is also class 0, 'sky', which wouldn't"):
        predict(label_lookup={0: 0, 1: 0, 2: 1, 3: 2}, ignore_class=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "gif"}, "format='gif' is unknown; choose png or tfrecord"),
        ({"shards": 0}, "shards is 0; it must be an integer >= 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"crop": 0}, "crop is 0; it must be an integer from 1"),
        ({"scales": ()}, r"scales=\(\); give one or more factors above 0"),
        ({"overlap": 1}, "overlap=1; it must be from 0 to below 1"),
        (
            {"workers": 2, "beam_options": ["--runner=FlinkRunner"]},
            "workers=2 is only for the local runner; use the options of FlinkRunner",
        ),
        ({"source": beam.ImageFiles([])}, "patterns is empty; give one or more, e.g. 'photos/"),
        ({"source": beam.TFRecords([])}, "patterns is empty; give one or more, e.g. 'val-"),
        (
            {"source": beam.ImageFiles("x/**", labels=[("", "y")])},
            "labels replaces an empty string",
        ),
        ({"source": beam.ImageFiles("none/*.jpg")}, r"no image matches .*none/\*\.jpg"),
        ({"source": beam.TFRecords("none/*")}, "no image matches"),
        ({"output": "a/b [2]*"}, r"output is '.*a/b \[2\]\*', but Beam wouldn't find results in a"),
        ({"model": "nowhere.keras"}, r"nowhere\.keras: can't be read"),
        ({"model": "nowhere"}, "there is no such file, and there is no preset 'nowhere'"),
    ],
)
def test_invalid_arguments(network, tmp_path, arguments, message):
    given = {"model": network, "source": beam.ImageFiles("none/*"), "output": tmp_path / "out"}
    with pytest.raises(ValueError, match=message):
        beam.predict_many(**{**given, **arguments})
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_disk_stops_the_job_with_one_sentence(
    write_set, predict, by_hand, tmp_path
):
    write_set(1)
    predict()
    shutil.rmtree(tmp_path / "out/classes")
    (tmp_path / "out/classes").write_text("not a folder")
    text = r"Beam stopped: .*classes is a file, not a folder; .* again to resume\."
    with pytest.raises(beam.JobError, match=text):
        predict()


def test_a_folder_of_other_files_and_damaged_settings_are_refused(
    write_set, predict, by_hand, tmp_path
):
    write_set(1)
    for name in ("classes", "failed.jsonl"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(ValueError, match=f"out has '{name}' but no job.json, so it isn't a"):
            predict()
        (tmp_path / "out" / name).unlink()
    predict()
    for content in ("", "[]", "{"):
        (tmp_path / "out/job.json").write_text(content)
        with pytest.raises(ValueError, match=r"job.json is damaged \(.*\); restore it, or choose"):
            predict()


def test_a_log_shows_the_progress(write_set, by_hand, network, tmp_path, capsys):
    write_set()
    source = beam.ImageFiles(f"{tmp_path}/images/**.png")
    beam.predict_many(source, network, tmp_path / "out")
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"predicting: 6 of 6, [\d.]+ images/s", line), line


@pytest.mark.slow
def test_several_processes(write_set, predict, tmp_path):
    write_set(0)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(6):
        image = rng.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{index}.png")
    one = predict("one", labels=())
    two = predict("two", labels=(), workers=2, share_model=True)
    assert one.images == two.images == 6
    for path in sorted((tmp_path / "one/classes").glob("*.png")):
        np.testing.assert_array_equal(
            read_mask(path), read_mask(tmp_path / "two/classes" / path.name)
        )
