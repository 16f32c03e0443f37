"""Kills a bulk evaluation, restarts it, and compares its results with a plain loop.

    python benchmarks/beam.py --images 500 --corrupted 3

`keras-psp bulk` evaluates a tiny random network on generated scenes, on Beam's local runner. Some
images are corrupted: empty, truncated, or with a label of another size. The process gets SIGKILL
when between a third and two thirds of the results exist; the same command then finishes the job.
Each result, the names in failed.jsonl and the merged confusion matrix are compared with a loop
over the images with one `Segmenter` call each.
"""

import argparse
import importlib.metadata
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import environment, progress
from PIL import Image


def write_set(folder, options):
    """Writes images, labels and network; returns the stems of the corrupted images."""
    import keras_psp
    from keras_psp.data import GeneratedScenes

    scenes = GeneratedScenes(image_size=(options.size,) * 2, counts={"val": options.images})
    arrays = dict(zip(("images", "labels"), scenes.arrays("val"), strict=True))
    for kind, images in arrays.items():
        for index, image in enumerate(images):
            path = folder / kind / f"{index % 10}" / f"{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    backbone = keras_psp.DilatedResNet(18, stem_filters=(8,))
    model = keras_psp.PSPNet(scenes.num_classes, backbone=backbone, bin_sizes=(1, 2))
    model.save(folder / "small.keras")
    corrupted = random.Random(options.seed).sample(range(options.images), options.corrupted)
    for turn, index in enumerate(corrupted):
        image, label = (folder / k / f"{index % 10}" / f"{index:05d}.png" for k in arrays)
        if turn % 3 == 0:
            image.write_bytes(b"")
        elif turn % 3 == 1:
            image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
        else:
            Image.fromarray(np.zeros((7, 9), np.uint8)).save(label)
    return {f"{index % 10}/{index:05d}" for index in corrupted}


def start(folder, options):
    """Starts the command."""
    code = "import sys; from keras_psp.cli import main; sys.exit(main())"
    command = ["bulk", "--model", str(folder / "small.keras")]
    command += ["--images", f"{folder}/images/**.png", "--labels", "images/=labels/"]
    command += ["--output", str(folder / "out")]
    command += ["--batch-size", str(options.batch_size), "--workers", str(options.workers)]
    log = open(folder / "log", "ab")  # noqa: SIM115
    return subprocess.Popen([sys.executable, "-c", code, *command], stdout=log, stderr=log)


def results(folder):
    """Stems and modification times of the existing results."""
    classes, times = folder / "out" / "classes", {}
    for parent, inner, names in os.walk(classes):  # tolerates folders that disappear
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            path = Path(parent) / name
            stem = path.relative_to(classes).with_suffix("").as_posix()
            times[stem] = path.stat().st_mtime_ns
    return times


def loop(folder, names):
    """Class maps by name and the confusion matrix, computed one image at a time."""
    import keras

    from keras_psp.data.images import read_image
    from keras_psp.data.label_files import read_mask
    from keras_psp.metrics.confusion import confusion_matrix
    from keras_psp.prediction import Segmenter

    model = keras.models.load_model(folder / "small.keras")
    segmenter, maps, confusion = Segmenter(model), {}, 0
    for name in names:
        (maps[name],) = segmenter.classes([read_image(folder / "images" / f"{name}.png")])
        label = read_mask(folder / "labels" / f"{name}.png")
        confusion += confusion_matrix(label, maps[name], model.num_classes, ignore_class=255)
    return maps, confusion[:, : model.num_classes]


def main():
    """Prints the table; returns whether a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--corrupted", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress("writing the images")
        corrupted = write_set(folder, options)
        process = start(folder, options)
        share = random.Random(options.seed).uniform(1 / 3, 2 / 3)
        while process.poll() is None and len(results(folder)) < share * options.images:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        time.sleep(5)  # workers of a killed runner end on their own
        before = results(folder)
        progress(f"killed at {len(before)} results")
        restarted = time.monotonic()
        process = start(folder, options)
        process.wait()
        seconds = time.monotonic() - restarted
        if not (folder / "out" / "summary.json").exists():
            raise SystemExit((folder / "log").read_text()[-3000:])
        after = results(folder)
        kept = sum(after[name] == moment for name, moment in before.items())
        progress("running the loop")
        expected, confusion = loop(folder, sorted(after))
        same = sum(
            np.array_equal(np.asarray(Image.open(folder / "out" / "classes" / f"{name}.png")), map_)
            for name, map_ in expected.items()
        )
        failed = [json.loads(line) for line in (folder / "out" / "failed.jsonl").open()]
        merged = np.load(folder / "out" / "confusion.npy")
        difference = int(np.abs(merged - confusion).sum())
        drafts = [path.name for path in (folder / "out").rglob(".*")]
    beam = importlib.metadata.version("apache-beam")
    print(f"{environment(['tensorflow'])}; apache-beam {beam}, {options.workers} worker(s)\n")
    print("| | |\n|---|---|")
    good = options.images - options.corrupted
    rows = {
        "images, corrupted": f"{options.images}, {options.corrupted}",
        "results at the kill": len(before),
        "of these kept after the restart": kept,
        "results at the end": f"{len(after)} of {good}",
        "of these equal to the loop's in every pixel": same,
        "in failed.jsonl": ", ".join(sorted(failure["name"] for failure in failed)),
        "equal to the corrupted images": {failure["name"] for failure in failed} == corrupted,
        "pixels in the merged matrix and in the loop's": f"{merged.sum()}, {confusion.sum()}",
        "sum of the differences": difference,
        "leftover drafts": len(drafts),
        "seconds after the restart": f"{seconds:.0f}",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    exact = killed and kept == len(before) and same == len(after) == good and not difference
    return not (exact and {failure["name"] for failure in failed} == corrupted and not drafts)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
