"""Damages every file that a training, an evaluation or a prediction leaves, and restarts it.

    python benchmarks/damaged_files.py --count 200 --whole 2

Of each file, half of the copies have one changed bit, the others are cut off at a random place. A
restart must continue correctly, or name the file in one sentence. Evaluations and predictions are
restarted by their public calls. A training is restarted in this process up to its first step, with
a network that is built once: its position, all variables and both tables must be those of a
checkpoint. `--whole` trainings for each file run to their end by the public call; their losses
must be those of a training that wasn't stopped. Networks are opened as `keras-psp evaluate` does.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from measure import environment, progress
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.damage import CONTINUED, NAMED, damages, outcome
from support.networks import random_network

import keras_psp
from keras_psp import data, training
from keras_psp.evaluation.report.sections import training_charts, training_settings
from keras_psp.evaluation.tally import Tally
from keras_psp.prediction import predict_files
from keras_psp.training import callbacks
from keras_psp.training.log import EPOCH_COLUMNS, STEP_COLUMNS, Table
from keras_psp.weights.opening import digest, open_model

RECIPE = {
    **{"backbone": "resnet18", "weights": None, "num_stages": 2, "stem_filters": (8,)},
    **{"bin_sizes": (1, 2), "crop_size": 49, "batch_size": 4, "epochs": 3, "checkpoint_steps": 2},
    **{"warmup_steps": 0, "learning_rate": 1e-3},
}


def main():
    """Prints the table; the status is 1 if a restart went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="damaged copies of each file")
    parser.add_argument("--whole", type=int, default=2, help="trainings of each file to their end")
    options = parser.parse_args()
    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as name:
        for title, folder, restart, names in cases(Path(name)):
            count = options.whole if "whole" in title else options.count
            expected = references(folder, restart)
            for path in sorted(folder.rglob("*")):
                inner = path.relative_to(folder)
                size = path.stat().st_size
                if path.is_file() and size and (names is None or inner.name in names):
                    results = outcomes(folder, inner, restart, expected, count)
                    rows.append((title, inner, size, results))
                    wrong += set(results) - {CONTINUED, NAMED}
                    progress(f"{title}, {inner}: {len(results)} restarts")
    print(f"{environment(['tensorflow'])}\n")
    print("| restarted | file | bytes | damaged | continued | named in a sentence | wrong |")
    print("|---|---|---|---|---|---|---|")
    for title, inner, size, results in rows:
        fine, named = results.count(CONTINUED), results.count(NAMED)
        cells = [title, inner, f"{size:,}", len(results), fine, named, len(results) - fine - named]
        print(f"| {' | '.join(map(str, cells))} |")
    total = sum(len(results) for *_, results in rows)
    print(f"\n{total:,} restarts, {sum(r not in (CONTINUED, NAMED) for *_, x in rows for r in x)}"
          " wrong.")  # fmt: skip
    for text in sorted(set(wrong)):
        print(f"- {text}")
    return bool(wrong)


def outcomes(folder, inner, restart, expected, count):
    """Restarts a fresh copy of the folder with each damaged content of a file."""
    results = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        copy = Path(name) / "copy"
        for content in damages((folder / inner).read_bytes(), count, seed=len(str(inner))):
            shutil.copytree(folder, copy)
            (copy / inner).write_bytes(content)
            results.append(outcome(copy / inner, lambda: restart(copy), expected))
            shutil.rmtree(copy)
    return results


def references(folder, restart):
    """Results of the whole folder, and for a training also without its newest checkpoint."""
    results = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        copy = Path(name) / "copy"
        shutil.copytree(folder, copy)
        newest = max((copy / "checkpoints").glob("step-*.npz"), default=None)
        results.append(restart(copy))
        shutil.rmtree(copy)
        if newest is not None:
            shutil.copytree(folder, copy)
            newest.unlink()
            results.append(restart(copy))
    return results


def cases(root):
    """Yields (title, folder, function that restarts a copy of it, names of files or None)."""
    images(root / "data")
    source = data.ImageFolder(root / "data")
    whole = train(source, root / "whole")
    stopped = mock.patch.object(callbacks.StopOnNonFiniteLoss, "on_train_batch_end", stop)
    with stopped:
        train(source, root / "run")
    quick = QuickTraining(source)
    yield "training, stopped", root / "run", quick, None
    read = ("recipe.json", "data.json", "log.csv", "steps.csv", "best.keras", "last.keras")
    yield "training, finished", root / "whole", quick, read
    assert train(source, shutil.copytree(root / "run", root / "resumed")) == whole
    yield "training, whole", root / "run", lambda folder: train(source, folder), None
    yield "network of a training", root / "whole", opened, ("best.keras", "last.keras")
    yield "logs in a report", root / "whole", shown, ("recipe.json", "starts.json", *read[2:4])
    network = random_network(3)
    whole = evaluate(source, network, root / "evaluation")
    yield "evaluation", root / "evaluation", lambda f: evaluate(source, network, f), None
    with mock.patch.object(Tally, "add", stop_evaluation):
        evaluate(source, network, root / "stopped")
    assert evaluate(source, network, shutil.copytree(root / "stopped", root / "copy")) == whole
    yield "evaluation, stopped", root / "stopped", lambda f: evaluate(source, network, f), None
    predict(root / "data", network, root / "prediction")
    yield "prediction", root / "prediction", lambda f: predict(root / "data", network, f), None


def images(folder):
    """Writes 12 and 3 images of noise with labels, and the names of their classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for kind, shape, high in (("images", (48, 48, 3), 256), ("labels", (48, 48), 3)):
            (folder / split / kind).mkdir(parents=True)
            for index in range(count):
                values = generator.integers(0, high, shape, np.uint8)
                Image.fromarray(values).save(folder / split / kind / f"{index}.png")
    (folder / "classes.txt").write_text("sky\ncar\ntree\n")


def tables(folder):
    """The rows of both logs, without the speed."""
    columns = {"log.csv": EPOCH_COLUMNS, "steps.csv": STEP_COLUMNS}
    hidden = ("images_per_second", "check")
    rows = {name: Table(folder / name, columns[name], writes=False).rows for name in columns}
    return {
        name: [{k: v for k, v in row.items() if k not in hidden} for row in part]
        for name, part in rows.items()
    }


def stop(callback, batch, logs=None):
    """Ends a training in its last epoch, as a signal does."""
    if callback._progress.step == 9:
        raise KeyboardInterrupt


def stop_evaluation(tally, *arguments, add=Tally.add):
    """Ends an evaluation at its third image."""
    if tally.done == 2:
        raise KeyboardInterrupt
    add(tally, *arguments)


def train(source, folder):
    """Trains to the end and returns what is left: logs, best mean IoU and the networks."""
    try:
        run = keras_psp.train("folder", data=source, output=folder, progress=False, **RECIPE)
    except KeyboardInterrupt:
        return None
    return {**tables(folder), "best": run.best_mean_iou, **opened(folder)}


class QuickTraining:
    """Restarts a training up to its first step; the network is built by the first call only."""

    def __init__(self, source):
        self.source, self.built = source, None

    def __call__(self, folder):
        found = {}
        build = training.run._Training._build_model

        def build_once(run):
            if self.built is None:
                build(run)
                self.built = run.model, run.metric
            run.model, run.metric = self.built

        def seen(run, position, validation):
            found.update(
                position=position,
                model=digest(run.model),
                optimizer=[variable_sum(variable) for variable in run.model.optimizer.variables],
                best=validation.best_mean_iou,
                **tables(folder),
            )

        with (
            mock.patch.object(training.run._Training, "_build_model", build_once),
            mock.patch.object(training.run._Training, "_fit", seen),
            mock.patch.object(training.run, "draw_curve"),
        ):
            keras_psp.train("folder", data=self.source, output=folder, progress=False, **RECIPE)
        return found


def variable_sum(variable):
    """A number that changes with any value of a variable."""
    values = keras.ops.convert_to_numpy(variable).astype(np.float64).ravel()
    return float(values @ np.arange(1, values.size + 1))


def opened(folder):
    """Digests of the networks that a training saved."""
    return {name: digest(open_model(folder / name)) for name in ("best.keras", "last.keras")}


def shown(folder):
    """Draws what a report shows of a training, which is what is left of the logs."""
    training_charts(folder)
    training_settings(folder)
    return {}


def evaluate(source, network, folder):
    """Evaluates and returns the counts, the tables and the predictions."""
    options = {"save_predictions": True, "report": False, "progress": False, "batch_size": 1}
    try:
        result = keras_psp.evaluate(source, network, output=folder, **options)
    except KeyboardInterrupt:
        return None
    files = [*folder.glob("*.csv"), *(folder / "predictions").glob("*.png")]
    contents = {path.name: path.read_bytes() for path in files}
    return {"confusion": result.measures.confusion.tolist(), **contents}


def predict(images, network, folder):
    """Predicts the validation images and returns all results."""
    predict_files(images / "val" / "images", folder, network, progress=False)
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
