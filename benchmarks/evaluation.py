"""Compares multi-scale sliding-window prediction with the authors' loop on the same images.

    python benchmarks/evaluation.py --semseg semseg

PSPNet-50, 150 classes, random weights, six scales and flip, window 473, base size 512: `test` of
semseg's tool/test.py on the CPU, and `Segmenter` in float32 and bfloat16. Each runs in a separate
process; they alternate image by image, and the first image doesn't count. Needs torch, pyyaml and
OpenCV 4 (`opencv-python-headless<5`).
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import Worker, environment, progress

sys.path.insert(0, str(Path(__file__).parent / "parity"))
from protocol import BASE_SIZE, SIX, Authors

from keras_psp import PSPNet
from keras_psp.data.scenes.generated import scene
from keras_psp.prediction import Segmenter
from keras_psp.weights import convert

CROP = 473
SIZES = ((375, 500), (375, 500), (500, 333), (384, 512), (300, 400))
KINDS = ("authors", "float32", "bfloat16")


def work(kind, folder, repository):
    """Segments one image per line of stdin and prints the seconds and the peak memory."""
    if kind == "authors":
        authors = Authors(repository, folder)
        print(json.dumps("ready"), flush=True)
    else:
        model = convert(Path(folder) / "weights.pth", verbose=False)
        if kind == "bfloat16":
            model = PSPNet(weights=model, dtype="mixed_bfloat16")
        ours = Segmenter(model, scales=SIX, flip=True, crop=CROP, base_size=BASE_SIZE)
        print(json.dumps("ready"), flush=True)
    views = np.random.default_rng(0).uniform(0, 255, (2, CROP, CROP, 3)).astype("float32")
    for line in sys.stdin:
        if line == "network\n":
            times = []
            for _ in range(4):
                start = time.perf_counter()
                if kind == "authors":
                    authors.network(views)
                else:
                    model.predict_low_resolution(views, fixed_size=True)
                times.append(time.perf_counter() - start)
            print(json.dumps(statistics.median(times[1:]) / len(views)), flush=True)
            continue
        number = int(line)
        image = scene(number, image_size=SIZES[number])[0]
        start = time.perf_counter()
        classes = authors(image, SIX, CROP)[0] if kind == "authors" else ours.classes([image])[0]
        seconds = time.perf_counter() - start
        np.save(Path(folder) / f"{kind}{number}.npy", classes)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([seconds, peak]), flush=True)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", required=True, type=Path)
    parser.add_argument("--images", type=int, default=len(SIZES), help="at least 2")
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.folder, options.semseg)
        return
    numbers = range(min(options.images, len(SIZES)))
    with tempfile.TemporaryDirectory() as folder:
        common = ("--folder", folder, "--semseg", str(options.semseg))
        workers = {kind: Worker("--work", kind, *common) for kind in KINDS}
        measured = {kind: [] for kind in KINDS}
        for number in numbers:
            for kind in KINDS:
                measured[kind].append(workers[kind](number))
                progress(f"image {number}, {kind}: {measured[kind][-1][0]:.1f} s")
        network = {kind: workers[kind]("network") for kind in KINDS}
        maps = {
            kind: [np.load(Path(folder) / f"{kind}{number}.npy") for number in numbers]
            for kind in KINDS
        }
    print(f"{environment(['tensorflow', 'torch'])}\n")
    print(
        "| | seconds per image, median (all) | speedup | network seconds per view | "
        "peak memory | equal pixels |"
    )
    print("|---|---|---|---|---|---|")
    first = [seconds for seconds, _ in measured["authors"][1:]]
    for kind in KINDS:
        times = [seconds for seconds, _ in measured[kind][1:]]
        ratio = statistics.median(a / b for a, b in zip(first, times, strict=True))
        equal = np.mean(
            np.concatenate(
                [(a == b).ravel() for a, b in zip(maps["authors"], maps[kind], strict=True)]
            )
        )
        print(
            f"| {kind} | {statistics.median(times):.1f} ({', '.join(f'{t:.1f}' for t in times)}) "
            f"| {ratio:.2f} | {network[kind]:.2f} | {measured[kind][-1][1]:.0f} MB "
            f"| {100 * equal:.2f} % |"
        )


if __name__ == "__main__":
    main()
