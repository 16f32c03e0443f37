"""Measures a PSPNet on every backbone by name: size, arithmetic, speed, memory and exports.

    python benchmarks/backbones.py
    python benchmarks/backbones.py --only mobilenet efficientnet_lite0
    python benchmarks/backbones.py --parts training

Each backbone at the smallest output stride that it allows, random weights, 150 classes. It takes
two training steps of two images of 193x193; then the times are of one image of 473x473 to a class
map: the median of `--repeats` in Keras and ONNX Runtime on all cores and in LiteRT (8 bits) on one.
Peak memory is that of a process that predicts in Keras. A cell with an error says what isn't
possible.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from measure import environment, progress

from keras_psp.imagenet import BACKBONES

SIZE = 473
STRIDES = (8, 16, 32)
# What is measured, and its columns.
PARTS = {
    "training": ("output strides", "parameters, M", "multiply-adds, G"),
    "Keras": ("Keras, ms", "peak memory, MB"),
    "ONNX": ("ONNX, ms",),
    "TFLite": ("TFLite int8 on one core, ms", "TFLite int8, MB"),
}


def milliseconds(call, repeats):
    """Median time of a call, after one that doesn't count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def strides(name):
    """The output strides that a backbone allows."""
    from keras_psp.layers.backbone import DilatedBackbone
    from keras_psp.models.named_backbones import named_model

    if name.removeprefix("resnet").isdigit():
        yield from STRIDES
        return
    model = named_model(name)
    for stride in STRIDES:
        try:
            DilatedBackbone(model, output_stride=stride)
        except ValueError:
            continue
        yield stride


def multiply_adds(model):
    """Of one image without the enlarging of the scores, by TensorFlow's profiler."""
    import tensorflow as tf

    function = tf.function(lambda images: model.views.low_resolution(images, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((1, SIZE, SIZE, 3))).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options = tf.compat.v1.profiler.ProfileOptionBuilder(options).with_empty_output().build()
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops / 2


def work(name, part, repeats):
    """Prints one part of a row as JSON."""
    from keras_psp import PSPNet, export

    possible = list(strides(name))
    model = PSPNet(150, backbone=name, output_stride=possible[0])
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, SIZE, SIZE, 3)).astype("uint8")
    if part == "training":
        auxiliary = model.get_layer("auxiliary_head").count_params()
        row = [
            ", ".join(map(str, possible)),
            f"{(model.count_params() - auxiliary) / 1e6:.1f}",
            f"{multiply_adds(model) / 1e9:.1f}",
        ]
        model.compile()
        images = rng.uniform(0, 255, (2, 193, 193, 3)).astype("float32")
        losses = [model.train_on_batch(images, np.zeros((2, 193, 193), "int32")) for _ in range(2)]
        assert np.isfinite(losses).all(), losses
    elif part == "Keras":
        floats = image.astype("float32")
        view = model.views.classes
        row = [f"{milliseconds(lambda: view.predict_on_batch(floats), repeats):.0f}"]
        row.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")
    else:
        options = {"image_size": (SIZE, SIZE), "progress": False}
        with tempfile.TemporaryDirectory() as folder:
            if part == "ONNX":
                path = Path(folder) / "network.onnx"
                export.onnx(model, path, **options)
                run = export.open_onnx(path)
                row = [f"{milliseconds(lambda: run(image), repeats):.0f}"]
            else:
                path = Path(folder) / "network.tflite"
                export.tflite(model, path, precision="int8", representative=image, **options)
                run = export.open_tflite(path, num_threads=1)
                row = [f"{milliseconds(lambda: run(image), repeats):.0f}"]
                row.append(f"{path.stat().st_size / 1e6:.1f}")
    print(json.dumps(row))


def cells(name, parts, repeats):
    """The cells of a row; each part is measured in a process of its own."""
    for part in parts:
        progress(f"{name}: {part}")
        command = [sys.executable, __file__, "--work", name, part, "--repeats", str(repeats)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            if result.returncode < 0 or not lines:  # killed by a signal
                lines = [f"exit status {result.returncode}"]
            yield lines[-1].replace("|", "/")[:150]
            yield from [""] * (len(PARTS[part]) - 1)
        else:
            yield from json.loads(result.stdout.splitlines()[-1])


def main():
    """Prints the table; fails if a backbone can't be trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="backbones whose name has it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work, options.repeats)
        return 0
    print(environment(["tensorflow", "onnxruntime", "ai-edge-litert"]))
    parts = [part for part in PARTS if part in options.parts]
    columns = ["backbone", *(column for part in parts for column in PARTS[part])]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    failed = False
    for name in BACKBONES:
        if not options.only or any(text in name for text in options.only):
            row = list(cells(name, parts, options.repeats))
            failed = failed or ("training" in parts and not row[1])
            print(f"| {name} | {' | '.join(row)} |", flush=True)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
