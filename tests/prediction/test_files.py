import csv
import json
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_predictor

import keras_psp
from keras_psp.prediction import Segmenter, files, outcomes, predict_files, record
from keras_psp.prediction.result import Prediction
from keras_psp.progress import ahead

NAMES = ("sky", "width", "car", "source")  # two are also names of columns


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return tiny_predictor(4, class_names=NAMES)


@pytest.fixture
def quick(monkeypatch):
    """Replaces the network by one that predicts class 2 everywhere; returns the images' shapes."""
    seen = []

    def classes(self, images):
        seen.extend(image.shape for image in images)
        return [np.full(image.shape[:2], 2, np.uint8) for image in images]

    monkeypatch.setattr(Segmenter, "classes", classes)
    return seen


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("in/a.png", "in/b.jpg", "in/deep/a.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(image).save(path)
        os.utime(path, (1e9, 1e9))
    return tmp_path


def settings():
    with open("out/predictions.json", encoding="utf-8") as file:
        return json.load(file)


def table(folder="out"):
    with open(f"{folder}/predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_images(photos, model):
    summary = predict_files("in", "out", model, progress=False)
    assert (summary.done, summary.skipped, summary.failures) == (3, 0, ())
    assert str(summary) == "3 done: out/predictions.csv"
    # Two inputs are called a.png: the name of the second includes its folder's.
    assert sorted(os.listdir("out")) == [
        "a_classes.png",
        "a_overlay.png",
        "b_classes.png",
        "b_overlay.png",
        "deep_a_classes.png",
        "deep_a_overlay.png",
        "predictions.csv",
        "predictions.json",
    ]
    for row, source in zip(table(), ("in/a.png", "in/b.jpg", "in/deep/a.png"), strict=True):
        assert row["source"] == str(photos / source)
        assert (row["width"], row["height"], row["failure"]) == ("32", "24", "")
        classes = keras_psp.predict(source, model).classes
        with Image.open(f"out/{row['name']}_classes.png") as saved:
            np.testing.assert_array_equal(np.asarray(saved), classes)
        # Each class has a column, whatever its name.
        shares = [float(row[name]) for name in ("sky", "width (1)", "car", "source (3)")]
        expected = np.bincount(classes.ravel(), minlength=4) / classes.size
        np.testing.assert_allclose(shares, expected, atol=1e-6)
    assert settings()["scales"] == [1.0]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf_8_are_predicted_and_recognized(photos, model):
    os.rename(b"in/a.png", b"in/caf\xe9.png")
    assert predict_files("in", "out", model, progress=False).done == 3
    assert predict_files("in", "out", model, progress=False).skipped == 3
    (row,) = [row for row in table() if row["name"] == "caf_"]
    assert row["source"].endswith("caf\\xe9.png")
    assert os.path.exists("out/caf__classes.png")


def test_the_same_call_again_skips_what_is_done(photos, model, quick):
    predict_files("in", "out", model, progress=False)
    assert len(quick) == 3
    summary = predict_files("in", "out", model, progress=False)
    assert len(quick) == 3 and (summary.done, summary.skipped) == (0, 3)
    assert str(summary) == "0 done, 3 done before: out/predictions.csv"
    # An input that changed, or lost a result, is predicted again with the same name.
    Image.fromarray(np.full((24, 32, 3), 99, np.uint8)).save("in/b.jpg")
    os.remove("out/deep_a_classes.png")
    summary = predict_files("in", "out", model, progress=False)
    assert (summary.done, summary.skipped) == (2, 1)
    assert [row["name"] for row in table()] == ["a", "b", "deep_a"]
    # Inputs keep their names in any order.
    predict_files(["in/deep/a.png", "in/a.png"], "out", model, progress=False)
    assert {row["name"]: row["source"] for row in table()}["a"] == str(photos / "in/a.png")
    assert predict_files("in", "out", model, force=True, progress=False).done == 3


def test_an_image_replaced_by_an_older_one_is_predicted_again(photos, model, quick):
    predict_files("in", "out", model, progress=False)
    Image.fromarray(np.full((24, 32, 3), 99, np.uint8)).save("in/a.png")
    os.utime("in/a.png", (1e8, 1e8))
    summary = predict_files("in", "out", model, progress=False)
    assert (summary.done, summary.skipped) == (1, 2)


def test_an_image_with_another_date_is_not_predicted_again(photos, model, quick):
    predict_files("in", "out", model, progress=False)
    os.utime("in/a.png")
    assert predict_files("in", "out", model, progress=False).skipped == 3


def test_a_damaged_image_is_counted_and_tried_again(photos, model, quick):
    (photos / "in" / "c.png").write_bytes(b"")
    summary = predict_files("in", "out", model, progress=False)
    ((origin, reason),) = summary.failures
    assert (summary.done, origin) == (3, "in/c.png")
    assert reason == "in/c.png: is empty; copy or download it again."
    assert str(summary) == "3 done, 1 failed: out/predictions.csv"
    assert [row["failure"] for row in table() if row["name"] == "c"] == [reason]
    assert not os.path.exists("out/c_classes.png")
    Image.new("RGB", (9, 9)).save("in/c.png")
    assert predict_files("in", "out", model, progress=False).done == 1
    assert [row["failure"] for row in table()] == [""] * 4


def test_other_settings_are_refused(photos, model, quick):
    predict_files("in/a.png", "out", model, progress=False)
    with pytest.raises(
        ValueError, match=r"out holds predictions with flip=False, not True; .*forc"
    ):
        predict_files("in", "out", model, flip=True, progress=False)
    other = keras_psp.PSPNet.from_config(model.get_config())
    with pytest.raises(
        ValueError, match=r"out holds predictions of another network \(its weights or settings"
    ):
        predict_files("in", "out", other, progress=False)
    assert len(quick) == 1
    assert predict_files("in", "out", model, flip=True, force=True, progress=False).done == 3
    assert settings()["flip"] is True


def test_force_for_one_image_keeps_the_rows_of_the_others(photos, model, quick):
    (photos / "in" / "c.png").write_bytes(b"")
    predict_files("in", "out", model, progress=False)
    before = {row["name"]: row for row in table()}
    predict_files("in/b.jpg", "out", model, flip=True, force=True, progress=False)
    rows = {row["name"]: row for row in table()}
    states = {name: row["state"] for name, row in rows.items()}
    expected = {"a": "other settings", "b": "done", "c": "failed", "deep_a": "other settings"}
    assert states == expected
    assert rows["a"] == {**before["a"], "state": "other settings", "check": rows["a"]["check"]}
    # These are results of this folder, but with other settings.
    del quick[:]
    summary = predict_files("in", "out", model, flip=True, progress=False)
    assert (summary.done, summary.skipped, len(quick)) == (2, 1, 2)
    assert [row["name"] for row in table()] == ["a", "b", "c", "deep_a"]


def test_force_with_other_classes_keeps_names_and_sizes(photos, model, quick):
    predict_files("in", "out", model, progress=False)
    config = model.get_config()
    config |= {"num_classes": 3, "class_names": ("sky", "sea", "car"), "palette": None}
    other = keras_psp.PSPNet.from_config(config)
    predict_files("in/b.jpg", "out", other, force=True, progress=False)
    rows = {row["name"]: row for row in table()}
    assert (rows["b"]["car"], rows["b"]["state"]) == ("1.000000", "done")
    row = rows["deep_a"]
    assert (row["width"], row["sea"], row["state"]) == ("32", "", "other settings")
    assert row["source"] == str(photos / "in/deep/a.png")


def test_a_stop_between_both_files_never_mixes_results_with_other_settings(
    photos, model, quick, monkeypatch
):
    predict_files("in", "out", model, progress=False)

    def fail(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.Record, "_write_settings", fail)
        with pytest.raises(KeyboardInterrupt):
            predict_files("in/b.jpg", "out", model, flip=True, force=True, progress=False)
    assert settings()["flip"] is False
    assert "done" not in {row["state"] for row in table()}
    assert predict_files("in", "out", model, progress=False).done == 3


def test_force_replaces_a_table_of_another_program(photos, model, quick):
    predict_files("in/a.png", "out", model, progress=False)
    (photos / "out" / "predictions.csv").write_text("mine\nall\n")
    assert predict_files("in/a.png", "out", model, force=True, progress=False).done == 1
    assert [row["name"] for row in table()] == ["a"]


def test_files_of_the_user_are_never_replaced(photos, model, quick):
    os.mkdir("out")
    (photos / "out" / "b_overlay.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"b_overlay.png exists and isn't recorded in out/"):
        predict_files("in", "out", model, progress=False)
    assert os.listdir("out") == ["b_overlay.png"]  # nothing was written
    (photos / "out" / "predictions.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"predictions.csv exists without its predictions.js"):
        predict_files("in/a.png", "out", model, progress=False)
    Image.new("RGB", (9, 9)).save("out/a_classes.png")
    with pytest.raises(ValueError, match=r"a_classes.png is one of the images"):
        predict_files(["in/a.png", "out/a_classes.png"], "out", model, force=True, progress=False)
    assert not quick


def test_repeated_images_and_images_in_memory(photos, model, quick):
    arrays = np.zeros((2, 24, 32, 3), np.uint8)
    summary = predict_files(["in/a.png", "in/*.png", arrays], "out", model, progress=False)
    assert summary.done == 3
    assert [row["name"] for row in table()] == ["a", "photo_0003", "photo_0004"]
    # An array can't be recognized in the next call, so the results of both are kept.
    assert predict_files(arrays, "out", model, progress=False).done == 2
    names = [row["name"] for row in table()]
    assert names == ["a", "photo_0003", "photo_0004", "photo_0001", "photo_0002"]
    assert predict_files(arrays, "out", model, progress=False).done == 2
    assert [row["name"] for row in table()][-2:] == ["photo_0001-2", "photo_0002-2"]


def test_an_address_that_is_named_twice_is_read_once(photos, model, quick, monkeypatch):
    content = (photos / "in" / "a.png").read_bytes()
    monkeypatch.setattr("keras_psp.data.images.download", lambda url, **_: content)
    address = "https://example.org/a.png"
    assert predict_files([address, address], "out", model, progress=False).done == 1


def test_names_never_collide(photos, model, quick):
    os.makedirs("in/x/deep")
    for name in ("in/x/deep/a.png", "in/A.webp"):
        Image.new("RGB", (32, 24)).save(name)
    assert predict_files("in", "out", model, progress=False).done == 5
    names = [row["name"] for row in table()]
    # Also on file systems that ignore case.
    assert len({name.casefold() for name in names}) == 5
    assert names == ["A", "in_a", "b", "deep_a", "a-2"]


def test_a_stop_keeps_what_is_done_and_half_a_row_is_ignored(photos, model, quick, monkeypatch):
    original = Prediction.save

    def save(self, *arguments, **options):
        if self.name == "deep_a":
            raise OSError(28, "No space left on device")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Prediction, "save", save)
    with pytest.raises(
        OSError, match=r"out can't be written \(No space left on device\); .*Free some space"
    ):
        predict_files("in", "out", model, progress=False)
    assert [row["name"] for row in table()] == ["a", "b"]
    with open("out/predictions.csv", "a") as file:
        file.write("deep_a,in/deep")
    os.mkdir("out/.deep_a_overlay.png-abc_1234")  # as `written_aside` names its drafts
    os.mkdir("out/.mine-abc_1234")
    monkeypatch.setattr(Prediction, "save", original)
    summary = predict_files("in", "out", model, progress=False)
    assert (summary.done, summary.skipped) == (1, 2)
    assert [row["name"] for row in table()] == ["a", "b", "deep_a"]
    assert [name for name in os.listdir("out") if name.startswith(".")] == [".mine-abc_1234"]


def many(folder, count=6):
    os.mkdir(folder)
    for number in range(count):
        path = f"{folder}/{number}.png"
        Image.new("RGB", (32, 24), (number, 0, 0)).save(path)
        os.utime(path, (1e9, 1e9))


def test_an_interrupt_keeps_the_rows_of_all_saved_results(photos, model, quick, monkeypatch):
    """Even if the first input is slow, the rows of later ones are written."""
    many("many")
    original, others = Prediction.save, threading.Event()
    saved = []

    def save(self, *arguments, **options):
        if self.name == "0":
            others.wait(20)
        original(self, *arguments, **options)
        saved.append(self.name)
        if len(saved) == 3:
            others.set()
        if self.name == "0":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "ahead", lambda f, items, threads: ahead(f, items, threads=2))
    monkeypatch.setattr(Prediction, "save", save)
    with pytest.raises(KeyboardInterrupt):
        predict_files("many", "out", model, progress=False)
    states = {row["name"]: row["state"] for row in table()}
    assert states.pop("0") == "begun"
    assert set(states.values()) == {"done"} and set(states) == set(saved) - {"0"}
    monkeypatch.setattr(Prediction, "save", original)
    del quick[:]
    summary = predict_files("many", "out", model, progress=False)
    assert (summary.done, summary.skipped) == (6 - len(states), len(states))
    assert len(quick) == summary.done
    assert [row["name"] for row in table()] == list("012345")
    assert {row["state"] for row in table()} == {"done"}


KILLED = """
import os, signal, threading
import keras, numpy as np
import keras_psp
from keras_psp.prediction import Segmenter, predict_files
from keras_psp.prediction.result import Prediction

original = Prediction.save

def save(self, *arguments, **options):
    original(self, *arguments, **options)
    if self.name == "3":
        os.kill(os.getpid(), signal.SIGKILL)

Prediction.save = save
Segmenter.classes = lambda self, images: [np.full(i.shape[:2], 2, np.uint8) for i in images]
predict_files("many", "out", keras.saving.load_model("model.keras"), progress=False)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_after_a_kill_the_same_call_resumes(photos, model, quick):
    many("many")
    model.save("model.keras")
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True)
    assert killed.returncode == -9, killed.stderr
    done = {row["name"] for row in table() if row["state"] == "done"}
    assert os.path.exists("out/3_classes.png") and "3" not in done
    summary = predict_files("many", "out", model, progress=False)
    assert (summary.done, summary.skipped, len(quick)) == (6 - len(done), len(done), 6 - len(done))
    assert [row["name"] for row in table()] == list("012345")
    assert [name for name in os.listdir("out") if name.startswith(".")] == []


def test_drafts_of_the_table_and_settings_are_removed(photos, model, quick):
    for name in ("predictions.csv", "predictions.json", "a_overlay.png"):
        draft = photos / "out" / f".{name}-abc_1234"  # of a killed process
        draft.mkdir(parents=True)
        (draft / "new").touch()
    predict_files("in", "out", model, progress=False)
    assert [name for name in os.listdir("out") if name.startswith(".")] == []


def test_names_without_any_file_are_reused(photos, model, quick, monkeypatch):
    def save(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    arrays = np.zeros((2, 24, 32, 3), np.uint8)
    original = Prediction.save
    monkeypatch.setattr(Prediction, "save", save)
    with pytest.raises(OSError, match="No space left"):
        predict_files(arrays, "out", model, progress=False)
    monkeypatch.setattr(Prediction, "save", original)
    assert table() == []
    predict_files(arrays, "out", model, progress=False)
    assert [row["name"] for row in table()] == ["photo_0001", "photo_0002"]


def test_probabilities_and_jpeg(photos, model, monkeypatch):
    uniform = np.full((24, 32, 4), 0.25, np.float32)
    monkeypatch.setattr(Segmenter, "probabilities", lambda self, image: uniform)
    options = {"probabilities": True, "suffix": ".jpg", "progress": False}
    assert predict_files("in/a.png", "out", model, **options).done == 1
    assert {"a_overlay.jpg", "a_classes.png", "a_probabilities.npz"} < set(os.listdir("out"))
    assert predict_files("in/a.png", "out", model, **options).skipped == 1


def test_a_progress_bar_is_shown_unless_disabled(photos, model, quick, capsys):
    predict_files("in", "out", model)
    assert "Predicting" in capsys.readouterr().err
    predict_files("in", "quiet", model, progress=False)
    assert capsys.readouterr().err == ""


def test_one_scale_may_be_a_number(photos, model, quick):
    predict_files("in", "out", model, scales=1.5, progress=False)
    assert settings()["scales"] == [1.5]
    assert predict_files("in", "out", model, scales=(1.5,), progress=False).skipped == 3


def test_overlap_is_a_setting_only_with_windows(photos, model, quick):
    with pytest.raises(ValueError, match=r"overlap=1; it must be from 0 to below 1"):
        predict_files("in", "out", model, overlap=1, progress=False)
    predict_files("in", "out", model, overlap=0.5, progress=False)
    assert predict_files("in", "out", model, overlap=0.25, progress=False).skipped == 3
    predict_files("in", "windows", model, crop=17, overlap=0.5, progress=False)
    with pytest.raises(ValueError, match=r"windows holds predictions with overlap=0.5, not 0.25"):
        predict_files("in", "windows", model, crop=17, overlap=0.25, progress=False)


@pytest.mark.parametrize("name", ["predictions.json", "predictions.csv"])
def test_a_damaged_table_or_settings_are_named_unless_forced(photos, model, quick, name):
    predict_files("in", "out", model, progress=False)
    path = photos / "out" / name
    whole = path.read_bytes()
    damages = [b"{", b"\xff\n", b"\0\n", whole.replace(b"a", b"b", 1), whole.replace(b"32", b"33")]
    for content in filter(whole.__ne__, damages):
        path.write_bytes(content)
        with pytest.raises(ValueError) as raised:
            predict_files("in", "out", model, progress=False)
        message = str(raised.value)
        assert message.startswith(f"out/{name} is damaged (") and "\n" not in message
        assert message.endswith("choose another output, or give force=True to replace it.")
    assert predict_files("in", "out", model, force=True, progress=False).done == 3
    assert predict_files("in", "out", model, progress=False).skipped == 3


def test_a_table_that_lost_rows_replaces_no_file(photos, model, quick):
    predict_files("in", "out", model, progress=False)
    path = photos / "out" / "predictions.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (lines[:1], [*lines[:2], lines[2][:20]]):
        path.write_bytes(b"".join(kept))
        with pytest.raises(FileExistsError, match=r"out/\w+.png exists and isn't recorded in"):
            predict_files("in", "out", model, progress=False)


def test_results_that_were_changed_are_left_and_named(photos, model, quick, capsys):
    predict_files("in", "out", model, progress=False)
    (photos / "out" / "a_overlay.png").write_bytes(b"cut")
    (photos / "out" / "b_classes.png").write_bytes(b"edited")
    assert predict_files("in", "out", model, progress=False).skipped == 3
    assert capsys.readouterr().err == (
        "out/a_overlay.png: was changed after it was written (2 results were) and is kept; remove "
        "it to predict it again\n"
    )
    (photos / "out" / "a_overlay.png").unlink()
    assert predict_files("in", "out", model, progress=False).done == 1


def test_an_image_replaced_while_it_is_read_is_predicted_again(photos, model, quick, monkeypatch):
    read = outcomes.read_any

    def slow(source, channels, **options):
        image = read(source, channels, **options)
        if str(source) == "in/a.png":
            Image.fromarray(np.full((24, 32, 3), 99, np.uint8)).save("in/a.png")
        return image

    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "read_any", slow)
        predict_files("in", "out", model, progress=False)
    assert predict_files("in", "out", model, progress=False).done == 1


def test_tables_of_earlier_versions_are_continued(photos, model, quick):
    predict_files("in", "out", model, progress=False)
    rows = table()
    columns = [name for name in rows[0] if name not in ("sha256", "results", "check")]
    with open("out/predictions.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (photos / "out" / "predictions.json").write_text(
        json.dumps({name: value for name, value in settings().items() if name != "checksum"})
    )
    assert predict_files("in", "out", model, progress=False).skipped == 3


def test_no_cell_is_a_formula(photos, model, quick):
    config = {**model.get_config(), "class_names": ("=1+1", "b", "c", "d"), "palette": None}
    other = keras_psp.PSPNet.from_config(config)
    os.rename("in/a.png", "in/-1+1(2).png")
    predict_files("in", "out", other, progress=False)
    assert {"'=1+1", "b"} < set(table()[0])
    assert "'-1+1(2)" in {row["name"] for row in table()}
    assert os.path.exists("out/-1+1(2)_classes.png")
    assert predict_files("in", "out", other, progress=False).skipped == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"output": "in"}, "in contains the images; choose another output"),
        ({"images": "~/in", "output": "~/in"}, "in contains the images; choose another output"),
        ({"output": "in/b.jpg"}, "b.jpg is a file; the output must be a folder"),
        ({"suffix": "jpg"}, "suffix is 'jpg'; it must be one of .png"),
        ({"alpha": 2}, "alpha is 2; it must be from 0 to 1"),
    ],
)
def test_invalid_arguments_are_refused(photos, model, changes, message, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, os.getcwd())
    arguments = {"images": "in", "output": "out", "model": model, **changes}
    with pytest.raises(ValueError, match=message):
        predict_files(**arguments)
    assert not os.path.exists("out")


def test_an_unwritable_folder_is_reported(photos, model, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record, "written_aside", fail)
    with pytest.raises(
        OSError, match=r"out can't be written \(Permission denied\); .*Free some space"
    ):
        predict_files("in", "out", model, progress=False)


def test_confidence_maps_are_results_that_a_second_call_keeps(model, photos):
    options = {"confidence": True, "flip": True, "base_size": None, "progress": False}
    assert predict_files("in", "out", model, **options).done == 3
    names = ("confidence", "probability", "margin", "entropy", "disagreement")
    assert {f"b_{name}.png" for name in names} <= {path.name for path in photos.glob("out/*")}
    assert predict_files("in", "out", model, **options).skipped == 3
    (photos / "out/b_entropy.png").unlink()
    assert predict_files("in", "out", model, **options).done == 1
    assert (photos / "out/b_entropy.png").exists()
    with pytest.raises(ValueError, match="with confidence=True, not False; choose another"):
        predict_files("in", "out", model, **{**options, "confidence": False})
