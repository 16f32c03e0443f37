"""Compares this checkout's networks with those of an older checkout, bit for bit.

    git worktree add /tmp/old f31cc66
    python benchmarks/parity/revisions.py /tmp/old

For the bundled preset and a ResNet-50 with fixed random weights, on each of Keras' backends:
class maps, logits at output stride 8 and at full size, what six threads predict at the same time,
and the files that are saved. A file saved by the older checkout is opened by this one.
Exits with 1 if anything differs.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PRESET = "pspnet_r18-d8_128x128_scenes"
NETWORKS = ("bundled", "resnet50")


def network(name):
    """The bundled network, or one whose weights depend on their shapes and order alone."""
    import keras_psp

    if name == "bundled":
        return keras_psp.PSPNet.from_preset(PRESET)
    model = keras_psp.PSPNet(21, backbone="resnet50")
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) > 1:
            scale = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, scale, variable.shape).astype("float32"))
    return model


def images(size):
    return np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype("uint8")


def record(folder, opened):
    """Writes what this process' keras_psp predicts and saves; `opened` is another's folder."""
    import keras

    for name in NETWORKS:
        path = folder / f"{name}.keras"
        model = network(name)
        model.save(path)
        results = outputs(model)
        if opened is not None:
            again = outputs(keras.saving.load_model(opened / path.name))
            results |= {f"file of the older: {key}": value for key, value in again.items()}
        np.savez(folder / f"{name}.npz", **results)


def outputs(model):
    results = {}
    for size in ((97, 129), (121, 89)):
        batch, at = images(size), f"{size[0]}x{size[1]}"
        results[f"classes {at}"] = model.predict_classes(batch, verbose=0)
        results[f"logits at stride 8 {at}"] = model.predict_low_resolution(batch)
        results[f"logits {at}"] = np.asarray(model.predict(batch, verbose=0))
    batch = images((97, 129))
    calls = [
        lambda: model.predict_classes(batch, verbose=0),
        lambda: model.predict_low_resolution(batch),
    ]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(calls[index % 2]) for index in range(6)]
        for index, future in enumerate(futures):
            results[f"thread {index}"] = future.result()
    return results


def run(checkout, folder, backend, opened=None):
    folder.mkdir()
    command = [sys.executable, __file__, "--record", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "KERAS_BACKEND": backend}
    subprocess.run(
        command + ["--opened", str(opened)] * (opened is not None), env=environment, check=True
    )


def compare(old, new):
    """(what, largest difference) of each array and part of the saved files."""
    for name in NETWORKS:
        with np.load(old / f"{name}.npz") as before, np.load(new / f"{name}.npz") as after:
            for key in after.files:
                a, b = before[key.removeprefix("file of the older: ")], after[key]
                yield f"{name}, {key}", float(np.max(np.abs(a.astype("float64") - b)))
        parts = []
        for folder in (old, new):
            with zipfile.ZipFile(folder / f"{name}.keras") as archive:
                parts.append(
                    [json.loads(archive.read("config.json")), archive.read("model.weights.h5")]
                )
        for what, a, b in zip(("configuration", "weights file"), *parts, strict=True):
            yield f"{name}, saved {what}", float(a != b)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path, nargs="?", help="the older checkout")
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--opened", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.record:
        record(args.record, args.opened)
        return 0
    worst = 0.0
    for backend in args.backends:
        with tempfile.TemporaryDirectory() as temporary:
            old, new = Path(temporary) / "old", Path(temporary) / "new"
            run(args.old, old, backend)
            run(ROOT, new, backend, opened=old)
            rows = list(compare(old, new))
        differing = [(what, value) for what, value in rows if value]
        print(
            f"{backend}: {len(rows) - len(differing)} of {len(rows)} equal bit for bit", flush=True
        )
        for what, value in differing:
            print(f"    {what}: {value:.3g}")
        worst = max([worst, *(value for _, value in rows)])
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
