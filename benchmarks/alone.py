"""Runs every export without keras_psp installed and compares it with the network in Keras.

    python benchmarks/alone.py best.keras IMAGES --representative TRAINING_IMAGES

Each runtime is the only package in a new virtual environment. Ten images of six sizes, or of the
only size of an export, are compared with Keras' float32 logits. Class names, input and output
come from the exported files. Exit status 1 if a bound is missed: float32 1e-4 of the range of an
image's logits and 99.9 % of its pixels, float16 99 % of its pixels; other precisions have none.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from measure import environment, progress
from PIL import Image, ImageOps

import keras_psp
from keras_psp import export

SIZES = ((241, 329), (300, 401), (313, 241), (257, 385), (361, 361), (473, 473))
SMALL, LARGE = SIZES[0], SIZES[-1]
BOUNDS = {"float32": (1e-4, 0.999), "float16": (np.inf, 0.99)}  # error, equal; others: none
RUNTIMES = {"TFLite": "ai-edge-litert", "ONNX": "onnxruntime", "OpenVINO": "openvino"}
RUNTIMES["SavedModel"] = "tensorflow"

START = """
import importlib.metadata, importlib.util, json, pathlib, sys, zipfile
import numpy as np
package, option, *folders = sys.argv[1:]
path, images, outputs = map(pathlib.Path, folders)
"""
RUN = {
    "SavedModel": """
import tensorflow as tf
about = json.loads((path / "assets.extra" / "keras_psp.json").read_text("utf-8"))
module = tf.saved_model.load(str(path))
serve, serve_bytes = (module.signatures[name] for name in ("serving_default", "serve_bytes"))
run = lambda images: serve(image=tf.constant(images))[about["output"]["name"]].numpy()
if option == "serve_bytes":
    content = lambda: file.with_suffix(".png").read_bytes()
    encoded = lambda: serve_bytes(image_bytes=tf.constant([content()]))["classes_png_bytes"][0]
    run = lambda _: tf.io.decode_png(encoded())[None, ..., 0].numpy()
""",
    "TFLite": """
from ai_edge_litert.interpreter import Interpreter
about = json.loads(zipfile.ZipFile(path).read("keras_psp.json"))
runner = Interpreter(model_path=str(path)).get_signature_runner()
run = lambda images: runner(image=images)[about["output"]["name"]]
""",
    "ONNX": """
import onnxruntime
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["keras_psp"])
run = lambda images: session.run([about["output"]["name"]], {"image": images})[0]
""",
    "OpenVINO": """
import openvino
model = openvino.Core().read_model(path / "model.xml")
about = json.loads(model.get_rt_info("keras_psp").astype(str))
precision = model.get_rt_info("keras_psp_precision").astype(str)
hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
compiled = openvino.compile_model(model, "CPU", {} if option == "no hint" else hint)
run = lambda images: compiled({"image": images})[about["output"]["name"]]
""",
}
END = """
for file in images.glob("*.npy"):
    output = run(np.load(file)[None].astype(about["input"]["dtype"]))
    assert output.dtype == about["output"]["dtype"], output.dtype
    np.save(outputs / file.name, output[0])
others = list(filter(importlib.util.find_spec, ("keras_psp", "tensorflow", "keras")))
print(json.dumps([importlib.metadata.version(package), about["class_names"], others]))
"""


EXPORTS = {  # (format, precision, option of the runtime): sizes
    ("SavedModel", "float32", ""): (None, SMALL),
    ("SavedModel", "float32", "serve_bytes"): (None, SMALL),
    ("TFLite", "float32", ""): (None, SMALL),
    ("TFLite", "float16", ""): (None, SMALL),
    ("TFLite", "dynamic_int8", ""): (None, SMALL),
    ("TFLite", "int8", ""): (SMALL,),
    ("ONNX", "float32", ""): (None, LARGE),  # with Winograd convolutions at one size
    ("ONNX", "int8", ""): (SMALL,),
    ("OpenVINO", "float32", ""): (None, LARGE),
    ("OpenVINO", "float32", "no hint"): (None, LARGE),
    ("OpenVINO", "bfloat16", ""): (None,),
    ("OpenVINO", "int8", ""): (SMALL,),
}


def images_in(folder, count):
    """`count` image files, evenly spaced in the sorted folder."""
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    return paths[:: max(1, len(paths) // count)][:count]


def expected_of(model, paths, sizes, folder):
    """Writes the images, each at the next size, and yields Keras' logits."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (path, size) in enumerate(zip(paths, itertools.cycle(sizes))):
        image = ImageOps.fit(Image.open(path).convert("RGB"), size[::-1])
        image.save(folder / f"{index}.png")
        np.save(folder / f"{index}.npy", np.asarray(image))
        yield model.predict(np.asarray(image, "float32")[None], verbose=0)[0]


def write(kind, precision, model, path, representative, **options):
    """Writes the export unless it exists."""
    if kind != "SavedModel":
        options["precision"] = precision
    if precision == "int8":
        options["representative"] = representative
    if not path.exists():
        function = export.saved_model if kind == "SavedModel" else getattr(export, kind.lower())
        function(model, path, **options)


def alone(kind, option, path, images, outputs, environments):
    """Runs the export in its runtime's environment.

    Returns:
        The runtime's version, the class names, and those of keras_psp, TensorFlow and Keras that
        are installed there.
    """
    package, home = RUNTIMES[kind], environments / RUNTIMES[kind]
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        progress(f"installing {package}")
        venv.create(home, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", package]
        subprocess.run(install, check=True, stdout=sys.stderr)
    outputs.mkdir(exist_ok=True)
    # -I ignores this folder and PYTHONPATH.
    command = [python, "-I", "-c", START + RUN[kind] + END, package, option]
    process = subprocess.run([*command, path, images, outputs], capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"{path} doesn't run alone:\n{process.stderr[-3000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def report(args, folder):
    """Prints the table; returns whether a bound is missed."""
    model = keras_psp.PSPNet(weights=args.network)
    paths, representative = images_in(args.images, 10), images_in(args.representative, 20)
    expected, rows, others, missed = {}, [], {}, False
    turns = [(*names, size) for names, sizes in EXPORTS.items() for size in sizes]
    for kind, precision, option, fixed in turns:
        name, size = f"{kind} {precision} {option}".strip(), "x".join(map(str, fixed or ["any"]))
        images = folder / f"images-{size}"
        if size not in expected:
            progress(f"Keras, {size}")
            expected[size] = list(expected_of(model, paths, [fixed] if fixed else SIZES, images))
        errors, equal = [], []
        for output in ("classes",) if option == "serve_bytes" else ("logits", "classes"):
            progress(f"{name}, {size}, {output}")
            suffix = {"TFLite": ".tflite", "ONNX": ".onnx"}.get(kind, "")
            path = folder / f"{kind}-{precision}-{size}-{output}{suffix}"
            write(kind, precision, model, path, representative, image_size=fixed, output=output)
            outputs = folder / f"outputs-{path.name}-{option}"
            version, names, others[kind] = alone(
                kind, option, path, images, outputs, folder / "environments"
            )
            if names != list(model.class_names or names) or "keras_psp" in others[kind]:
                raise SystemExit(f"{path} has the classes {names}; installed are {others[kind]}")
            for index, logits in enumerate(expected[size]):
                actual = np.load(outputs / f"{index}.npy")
                if output == "logits":
                    errors.append(np.abs(actual - logits).max() / np.ptp(logits))
                else:
                    equal.append(np.mean(actual == logits.argmax(-1)))
        bounds = BOUNDS.get("" if option == "no hint" else precision, (np.inf, 0))
        kept = max(errors, default=0) <= bounds[0] and min(equal) >= bounds[1]
        missed |= not kept
        parts = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        cells = [name, f"{RUNTIMES[kind]} {version}", size]
        cells += [f"{sum(part.stat().st_size for part in parts) / 1e6:.0f}"]
        cells += [f"{max(errors):.1e}" if errors else ""]
        cells += [f"{100 * share:.3f} %" for share in (np.mean(equal), min(equal))]
        rows.append(f"| {' | '.join(cells)} | {'' if kept else '**missed**'} |")
        progress(rows[-1])
    print(f"{environment(['tensorflow'])}\n")
    print(f"{len(paths)} images, {model.num_classes} classes with the names of each export.")
    print(
        "Installed of keras_psp, TensorFlow and Keras: "
        + "; ".join(f"{k}: {v or 'none'}" for k, v in others.items())
    )
    print("\n| export | runtime | size | MB | error of the logits | equal pixels | worst image | |")
    print("|---|---|---|---|---|---|---|---|\n" + "\n".join(rows))
    return missed


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help=".keras file or training folder")
    parser.add_argument("images", type=Path, help="folder; ten are used")
    parser.add_argument("--representative", type=Path, help="images for int8 [IMAGES]")
    parser.add_argument("--folder", type=Path, help="keeps the exports for the next run")
    args = parser.parse_args()
    args.representative = args.representative or args.images
    with tempfile.TemporaryDirectory() as temporary:
        return report(args, args.folder or Path(temporary))


if __name__ == "__main__":
    raise SystemExit(main())
