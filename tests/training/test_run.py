"""Trainings from recipe to files, stopped, killed and resumed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp import data, train, training
from keras_psp.files import damage_in_zip
from keras_psp.losses import median_frequency_weights
from keras_psp.training import callbacks, checkpoints
from keras_psp.training.log import EPOCH_COLUMNS, STEP_COLUMNS, Table

SMALL = {
    "num_stages": 2,
    "stem_filters": (8,),
    "bin_sizes": (1, 2),
    "crop_size": 49,
    "batch_size": 4,
    "epochs": 2,
    "warmup_steps": 2,
    "checkpoint_steps": 2,
}


def scenes(train_count=12):
    return data.GeneratedScenes(image_size=(48, 48), counts={"train": train_count, "val": 3})


def losses(folder):
    return Table(folder / "steps.csv", STEP_COLUMNS, writes=False).column("loss")


def test_a_run_folder_has_everything_to_repeat_the_training(tmp_path, capsys):
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: seen.append(dict(logs)))
    run = train("scenes", data=scenes(), output=tmp_path / "run", callbacks=[note], **SMALL)
    assert run.best_mean_iou > 0
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {
        "recipe.json",
        "starts.json",
        "log.csv",
        "steps.csv",
        "curve.png",
        "augmented.png",
    }
    recipe = json.loads((run.folder / "recipe.json").read_text())
    assert (recipe["epochs"], recipe["seed"], recipe["stem_filters"]) == (2, 0, [8])
    (begun,) = json.loads((run.folder / "starts.json").read_text())
    assert begun["versions"]["keras"] == keras.__version__
    log = Table(run.folder / "log.csv", EPOCH_COLUMNS, writes=False)
    assert log.column("step") == [3, 6]
    assert np.isfinite(log.column("val_mean_iou")).all()
    assert log.column("val_mean_iou") == [logs["val_mean_iou"] for logs in seen]
    assert len(losses(run.folder)) == 6
    err = capsys.readouterr().err
    assert "epoch 2/2" in err and "validation: mean IoU" in err

    # The files contain the networks they are named for.
    last = keras.models.load_model(run.folder / "last.keras")
    image = np.full((1, 48, 48, 3), 99.0)
    np.testing.assert_array_equal(
        last.predict(image, verbose=0), run.model.predict(image, verbose=0)
    )
    assert last.class_names == list(scenes().class_names)

    # The same call again does nothing more.
    before = (run.folder / "steps.csv").read_text()
    again = train("scenes", data=scenes(), output=tmp_path / "run", **SMALL)
    assert (run.folder / "steps.csv").read_text() == before
    np.testing.assert_array_equal(
        again.model.predict(image, verbose=0), last.predict(image, verbose=0)
    )
    with pytest.raises(ValueError, match="holds a run with epochs=2, not 9"):
        train("scenes", data=scenes(), output=tmp_path / "run", **{**SMALL, "epochs": 9})


def test_data_is_a_path_a_string_or_a_source(tmp_path):
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(ValueError, match="train isn't here"):
            train("camvid", data=folder, output=tmp_path / "run")
    with pytest.raises(TypeError, match="data is an object of type int; it must be a folder"):
        train("camvid", data=7, output=tmp_path / "run")


def test_class_weights_are_counted_from_the_labels():
    source = scenes()
    recipe = training.recipe("scenes", class_weights="median_frequency", batch_size=4)
    weights = training.run._Training(recipe, source, None, None, shown=False)._class_weights()
    _, masks = source.arrays("train")
    counts = [np.bincount(mask.ravel(), minlength=256)[: source.num_classes] for mask in masks]
    np.testing.assert_array_equal(weights, median_frequency_weights(counts))
    source.ignore_class = 0  # one of the classes
    weights = training.run._Training(recipe, source, None, None, shown=False)._class_weights()
    counts = np.array(counts)
    counts[:, 0] = 0
    np.testing.assert_array_equal(weights, median_frequency_weights(counts))


SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import test_run
from keras_psp import train
from keras_psp.training import checkpoints

output, kill = sys.argv[2], int(sys.argv[3])
save, calls = np.savez, []

def savez(path, **arrays):
    calls.append(path)
    if len(calls) == kill:  # in the middle of writing
        save(path, **dict(list(arrays.items())[: len(arrays) // 2]))
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, **arrays)

checkpoints.np.savez = savez
train("scenes", data=test_run.scenes(), output=output, progress=False, **test_run.SMALL)
"""


# Replaces the script's last line of savez: sends SIGTERM during the first save.
SIGTERM = """save(path, **arrays)
    if len(calls) == 1:
        os.kill(os.getpid(), signal.SIGTERM)"""


def in_a_process(output, kill):
    arguments = [os.path.dirname(__file__), str(output), str(kill)]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_training_killed_while_writing_resumes_with_the_same_losses(tmp_path):
    assert in_a_process(tmp_path / "alone", 0).returncode == 0
    # Checkpoints are written at steps 2, 3 (the end of an epoch), 4 and 6. A kill during the
    # third leaves that of step 3 as the newest; then one during that of step 6 leaves step 4.
    for kill, newest in ((3, 3), (2, 4)):
        killed = in_a_process(tmp_path / "killed", kill)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        files = sorted((tmp_path / "killed" / "checkpoints").glob("step-*.npz"))
        assert files[-1].name == f"step-{newest:08d}.npz"
    finished = in_a_process(tmp_path / "killed", 0)
    assert finished.returncode == 0, finished.stderr[-2000:]
    expected = losses(tmp_path / "alone")
    assert len(expected) == 6
    np.testing.assert_allclose(losses(tmp_path / "killed"), expected, rtol=1e-6)
    rows = [(tmp_path / name / "log.csv").read_text().split() for name in ("alone", "killed")]
    assert len(rows[0]) == len(rows[1]) == 3


class Named(data.GeneratedScenes):
    """Scenes with file names."""

    def paths(self, split):
        return [(f"{split}/{index}.jpg", "") for index in range(self.count(split))]


def test_a_loss_that_is_not_finite_names_its_files(tmp_path):
    source = Named(image_size=(48, 48), counts={"train": 12, "val": 3})
    # No checkpoint within the epoch, which would report the weights first.
    wild = {**SMALL, "learning_rate": 1e30, "checkpoint_steps": 99}
    with pytest.raises(FloatingPointError) as raised:
        train("scenes", data=source, output=tmp_path / "run", progress=False, **wild)
    message = str(raised.value)
    assert "lower learning_rate" in message
    step = int(re.search(r"the loss of step (\d+) .*is not finite", message)[1]) - 1
    used = data.batch_examples(source, batch_size=4, epoch=step // 3, step=step % 3)
    assert ", ".join(f"train/{index}.jpg" for index in used) in message
    # It is not in any checkpoint.
    for path in (tmp_path / "run" / "checkpoints").glob("step-*.npz"):
        with np.load(path) as file:
            for name in set(file.files) - {"meta"}:
                assert np.isfinite(file[name]).all()


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_stops(tmp_path):
    script = SCRIPT.replace("save(path, **arrays)\n\ncheck", SIGTERM + "\n\ncheck")
    assert script != SCRIPT
    arguments = [os.path.dirname(__file__), str(tmp_path / "run"), "0"]
    stopped = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert stopped.returncode and "the same command resumes there" in stopped.stderr
    # The signal came while the checkpoint of step 2 was written; step 3 is still run.
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*.npz"))
    assert newest.name == "step-00000003.npz"


class StopAfter(keras.callbacks.Callback):
    """Stops a training after its nth step in this process, at the end of the epoch if it is one."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if not self.step:
            self.model.stop_training = True


@pytest.mark.slow
def test_callbacks_may_stop_a_training_which_then_resumes(tmp_path):
    arguments = {**SMALL, "ema": 0.5, "checkpoint_steps": 9, "validation_epochs": 0}
    output, image = tmp_path / "run", np.full((1, 48, 48, 3), 99.0)
    for steps, at in ((2, 2), (1, 3)):  # within the first epoch, and at the end of its rest
        stop = StopAfter(steps)
        run = train("scenes", data=scenes(), output=output, callbacks=[stop], **arguments)
        assert len(losses(output)) == at
        last = keras.models.load_model(output / "last.keras").predict(image, verbose=0)
        np.testing.assert_array_equal(run.model.predict(image, verbose=0), last)
    train("scenes", data=scenes(), output=output, **arguments)
    train("scenes", data=scenes(), output=tmp_path / "whole", **arguments)
    np.testing.assert_allclose(losses(output), losses(tmp_path / "whole"), rtol=1e-5)


@pytest.mark.slow
def test_the_moving_average_is_evaluated_and_saved(tmp_path):
    options = {**SMALL, "ema": 0.5, "validation_epochs": 2, "checkpoint_steps": 5}
    run = train("scenes", data=scenes(), output=tmp_path / "run", progress=False, **options)
    image = np.full((1, 48, 48, 3), 99.0)
    expected = run.model.predict(image, verbose=0)
    last = keras.models.load_model(run.folder / "last.keras")
    np.testing.assert_array_equal(last.predict(image, verbose=0), expected)
    again = train("scenes", data=scenes(), output=tmp_path / "run", progress=False, **options)
    np.testing.assert_array_equal(again.model.predict(image, verbose=0), expected)


def averaging(rate):
    return keras.optimizers.SGD(rate, momentum=0.9, use_ema=True, ema_momentum=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("average", [{"ema": 0.5}, {"optimizer": averaging}], ids=["recipe", "own"])
def test_resuming_within_an_epoch_keeps_weights_apart_from_their_average(
    average, tmp_path, monkeypatch
):
    # Resumes in the second epoch of four steps. At its end `fit` replaces the weights by the
    # average, and no checkpoint would be due.
    more = {"validation_epochs": 0, "checkpoint_steps": 5, "epochs": 3}
    options = {**SMALL, **more, **average, "data": scenes(16), "progress": False}
    run = train("scenes", output=tmp_path / "whole", **options)

    def fail(callback, batch, logs=None):
        if callback._progress.step == 7:
            raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopOnNonFiniteLoss, "on_train_batch_end", fail)
        with pytest.raises(OSError, match="power cut"):
            train("scenes", output=tmp_path / "run", **options)
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ["step-00000005.npz"]
    again = train("scenes", output=tmp_path / "run", **options)
    image = np.full((1, 48, 48, 3), 99.0)
    # Not bit for bit: the compiled step rounds differently from start to start.
    np.testing.assert_allclose(
        again.model.predict(image, verbose=0), run.model.predict(image, verbose=0), atol=0.1
    )


def test_an_output_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    def full(*arguments, **values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.np, "savez", full)
    with pytest.raises(OSError, match=r"step-0+2.npz can't be written \(No space left") as raised:
        train("scenes", data=scenes(), output=tmp_path / "run", progress=False, **SMALL)
    assert "run the same command again" in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 99}, "split 'train' has 12 examples, fewer than batch_size=99"),
        ({"val_split": "validation"}, "val_split='validation': the data has no split 'validation'"),
        ({"unreadable": "ignore"}, "unreadable='ignore' is unknown; choose stop"),
        ({"gradient_accumulation_steps": 3}, "batch_size=4 can't be shared equally by 1 device"),
        ({"crop": 3}, "a recipe has no field 'crop'"),
        ({"ema": 0.9, "optimizer": averaging}, "ema=0.9 has no effect with your own optimizer"),
        (
            {"class_weights": "median_frequency", "loss": keras.losses.Loss()},
            "class_weights='median_frequency' has no effect with your own loss; omit it, or set",
        ),
        ({"optimizer": "adam"}, "optimizer is 'adam'"),
        ({"reduction": "many"}, "reduction is 'many'; it must be an integer >= 1, or 'auto' or"),
        ({"image_size": (64, 99_999)}, r"image_size is \(64, 99999\); it must be two integers"),
    ],
)
def test_invalid_arguments_are_refused_before_training(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train("scenes", data=scenes(), output=tmp_path / "run", **{**SMALL, **arguments})


@pytest.fixture
def folder(tmp_path):
    """Small images of noise with labels, in splits "train" and "val"."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for index in range(count):
            for kind, shape, high in (("images", (48, 48, 3), 256), ("labels", (48, 48), 3)):
                path = tmp_path / "data" / split / kind / f"{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = generator.integers(0, high, shape, np.uint8)
                Image.fromarray(values).save(path)
    (tmp_path / "data" / "classes.txt").write_text("sky\ncar\ntree\n")
    return tmp_path / "data"


def train_on(folder, tmp_path, **options):
    fields = {
        **SMALL,
        "epochs": 1,
        "warmup_steps": 0,
        "backbone": "resnet18",
        "weights": None,
        **options,
    }
    return train("folder", data=folder, output=tmp_path / "run", progress=False, **fields)


@pytest.mark.parametrize("unreadable", ["stop", "trust"])
def test_a_run_is_not_resumed_with_other_classes_labels_or_names(
    folder, tmp_path, unreadable, monkeypatch
):
    def checkpoint(self):
        """Stands for a training of one step; what is compared comes before."""
        (self.folder / "checkpoints").mkdir(exist_ok=True)
        (self.folder / "checkpoints" / "step-00000001.npz").touch()

    monkeypatch.setattr(training.run._Training, "run", checkpoint)
    train_on(folder, tmp_path, unreadable=unreadable)
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    train_on(moved, tmp_path, unreadable=unreadable)

    def refusal():
        with pytest.raises(ValueError, match="run was trained on other data: ") as raised:
            train_on(moved, tmp_path, unreadable=unreadable)
        return str(raised.value)

    label = moved / "train" / "labels" / "train3.png"
    content = label.read_bytes()
    Image.new("L", (48, 48)).save(label)
    assert "1 of 8 labels in split 'train' were changed (first train/images/train3.png)" in (
        refusal()
    )
    label.write_bytes(content)
    (moved / "classes.txt").write_text("car\nsky\ntree\n")
    assert "class 0 is 'car', not 'sky' (1 more differ)" in refusal()
    (moved / "classes.txt").write_text("sky\ncar\ntree\n")
    for kind in ("images", "labels"):
        (moved / "train" / kind / "train0.png").rename(moved / "train" / kind / "z.png")
    assert "train/images/train0.png" in refusal()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_file_that_breaks_during_the_training_is_named(folder, tmp_path, split):
    # "train0" and "val0" are drawn before and after the first epoch.
    path = folder / split / "images" / f"{split}0.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"^{path}: is broken \(.*copy or download it again\.$"):
        train_on(folder, tmp_path, unreadable="trust")


@pytest.mark.slow
def test_damaged_networks_of_a_finished_run_are_named(folder, tmp_path, capsys):
    run = train_on(folder, tmp_path)
    last = run.folder / "last.keras"
    image = np.full((1, 48, 48, 3), 99.0)
    expected = run.model.predict(image, verbose=0)
    data = last.read_bytes()
    last.write_bytes(data[: len(data) // 2])
    (run.folder / "best.keras").unlink()
    capsys.readouterr()
    train_on(folder, tmp_path)
    err = capsys.readouterr().err
    assert "last.keras is damaged (File is not a zip file); it is saved again." in err
    assert "best.keras is damaged (it is missing); the network of the next validation" in err
    again = keras.models.load_model(last)
    np.testing.assert_array_equal(again.predict(image, verbose=0), expected)


@pytest.mark.slow
def test_a_damaged_best_network_is_replaced_by_the_next_validation(folder, tmp_path, monkeypatch):
    def stop(callback, batch, logs=None):
        if callback._progress.step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopOnNonFiniteLoss, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train_on(folder, tmp_path, epochs=2)
    best = tmp_path / "run" / "best.keras"
    best.write_bytes(best.read_bytes()[:-1000])
    log = Table(tmp_path / "run" / "log.csv", EPOCH_COLUMNS)
    # No later mean IoU is better.
    log.rows[0]["val_mean_iou"] = "0.99"
    log.cut(99)
    run = train_on(folder, tmp_path, epochs=2)
    assert damage_in_zip(best) == ""
    assert run.best_mean_iou == 0.99
