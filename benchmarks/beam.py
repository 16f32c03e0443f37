"""Kill a bulk evaluation with SIGKILL, start it again, and compare it with a plain loop.

    python benchmarks/beam.py --images 500 --poisoned 3

Generated scenes and a tiny random network, evaluated by `keras-psp bulk` on Beam's local runner.
Some images are spoiled: empty, cut, or with a label of another size. Once between a third and two
thirds of the results are there the process gets kill -9; then the same command again comes to the
end. Each result, the names in failed.jsonl and the merged confusion matrix are compared with
those of a loop over the images, one `Segmenter` call each.
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
    """The images, labels and network; stems of the poisoned ones."""
    import keras_psp
    from keras_psp.data import GeneratedScenes

    scenes = GeneratedScenes(image_size=(options.size,) * 2, counts={"val": options.images})
    arrays = dict(zip(("images", "labels"), scenes.arrays("val"), strict=True))
    for kind, pictures in arrays.items():
        for index, picture in enumerate(pictures):
            path = folder / kind / f"{index % 10}" / f"{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    backbone = keras_psp.DilatedResNet(18, stem_filters=(8,))
    model = keras_psp.PSPNet(scenes.num_classes, backbone=backbone, bin_sizes=(1, 2))
    model.save(folder / "small.keras")
    poisoned = random.Random(options.seed).sample(range(options.images), options.poisoned)
    for turn, index in enumerate(poisoned):
        image, label = (folder / k / f"{index % 10}" / f"{index:05d}.png" for k in arrays)
        if turn % 3 == 0:
            image.write_bytes(b"")
        elif turn % 3 == 1:
            image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
        else:
            Image.fromarray(np.zeros((7, 9), np.uint8)).save(label)
    return {f"{index % 10}/{index:05d}" for index in poisoned}


def start(folder, options):
    """The command, begun."""
    code = "import sys; from keras_psp.cli import main; sys.exit(main())"
    command = ["bulk", "--model", str(folder / "small.keras")]
    command += ["--images", f"{folder}/images/**.png", "--labels", "images/=labels/"]
    command += ["--output", str(folder / "out")]
    command += ["--batch-size", str(options.batch_size), "--workers", str(options.workers)]
    log = open(folder / "log", "ab")  # noqa: SIM115
    return subprocess.Popen([sys.executable, "-c", code, *command], stdout=log, stderr=log)


def results(folder):
    """Stems and times of writing of the results so far."""
    classes, found = folder / "out" / "classes", {}
    for parent, inner, names in os.walk(classes):  # where folders may vanish meanwhile
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            path = Path(parent) / name
            stem = path.relative_to(classes).with_suffix("").as_posix()
            found[stem] = path.stat().st_mtime_ns
    return found


def loop(folder, names):
    """Classes by name and their confusion matrix, by one image after the other."""
    import keras

    from keras_psp.data.label_files import read_mask, read_training_image
    from keras_psp.prediction import Segmenter

    model = keras.models.load_model(folder / "small.keras")
    segmenter, found = Segmenter(model), {}
    confusion = np.zeros((model.num_classes, model.num_classes), np.int64)
    for name in names:
        (found[name],) = segmenter.classes([read_training_image(folder / "images" / f"{name}.png")])
        label = read_mask(folder / "labels" / f"{name}.png")
        counted = label != 255
        np.add.at(confusion, (label[counted], found[name][counted]), 1)
    return found, confusion


def main():
    """Print what came of it; 0 where all is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--poisoned", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress("writing the set")
        poisoned = write_set(folder, options)
        process = start(folder, options)
        share = random.Random(options.seed).uniform(1 / 3, 2 / 3)
        while process.poll() is None and len(results(folder)) < share * options.images:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        time.sleep(5)  # workers of a killed runner end by themselves
        before = results(folder)
        progress(f"killed at {len(before)} results")
        begun = time.monotonic()
        process = start(folder, options)
        process.wait()
        seconds = time.monotonic() - begun
        if not (folder / "out" / "summary.json").exists():
            raise SystemExit((folder / "log").read_text()[-3000:])
        after = results(folder)
        kept = sum(after[name] == moment for name, moment in before.items())
        progress("the loop")
        expected, confusion = loop(folder, sorted(after))
        same = sum(
            np.array_equal(np.asarray(Image.open(folder / "out" / "classes" / f"{name}.png")), map_)
            for name, map_ in expected.items()
        )
        failed = [json.loads(line) for line in (folder / "out" / "failed.jsonl").open()]
        merged = np.load(folder / "out" / "confusion.npy")
        difference = int(np.abs(merged - confusion).sum())
        left = [path.name for path in (folder / "out").rglob(".*")]
    beam = importlib.metadata.version("apache-beam")
    print(f"{environment(['tensorflow'])}; apache-beam {beam}, {options.workers} worker(s)\n")
    print("| | |\n|---|---|")
    good = options.images - options.poisoned
    rows = {
        "images, poisoned": f"{options.images}, {options.poisoned}",
        "results at the kill": len(before),
        "of these not predicted again": kept,
        "results at the end": f"{len(after)} of {good}",
        "of these the loop's, pixel by pixel": same,
        "in failed.jsonl": ", ".join(sorted(failure["name"] for failure in failed)),
        "as they were poisoned": {failure["name"] for failure in failed} == poisoned,
        "pixels in the merged matrix, in the loop's": f"{merged.sum()}, {confusion.sum()}",
        "sum of the differences": difference,
        "drafts left behind": len(left),
        "seconds of the second start": f"{seconds:.0f}",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    exact = killed and kept == len(before) and same == len(after) == good and not difference
    return not (exact and {failure["name"] for failure in failed} == poisoned and not left)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
