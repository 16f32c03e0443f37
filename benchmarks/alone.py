"""Every export opened where keras_psp isn't installed, beside the network in Keras.

    python benchmarks/alone.py best.keras PHOTOS --representative TRAINING_IMAGES

Each runtime gets an empty virtual environment of its own into which pip installs nothing else.
Ten photos go in at six sizes, or at the only size of an export; what comes out is compared with
Keras' float32 logits. Class names, input and output are read from the exported files. Exit
status 1 where a bound is missed: float32 1e-4 of the range of a photo's logits and 99.9 % of
its pixels, float16 99 %; the other precisions are stated only.
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
path, photos, answers = map(pathlib.Path, folders)
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
    answer = lambda: serve_bytes(image_bytes=tf.constant([content()]))["classes_png_bytes"][0]
    run = lambda _: tf.io.decode_png(answer())[None, ..., 0].numpy()
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
for file in photos.glob("*.npy"):
    found = run(np.load(file)[None].astype(about["input"]["dtype"]))
    assert found.dtype == about["output"]["dtype"], found.dtype
    np.save(answers / file.name, found[0])
others = list(filter(importlib.util.find_spec, ("keras_psp", "tensorflow", "keras")))
print(json.dumps([importlib.metadata.version(package), about["class_names"], others]))
"""


EXPORTS = {  # format, precision and how it's opened: sizes
    ("SavedModel", "float32", ""): (None, SMALL),
    ("SavedModel", "float32", "serve_bytes"): (None, SMALL),
    ("TFLite", "float32", ""): (None, SMALL),
    ("TFLite", "float16", ""): (None, SMALL),
    ("TFLite", "dynamic_int8", ""): (None, SMALL),
    ("TFLite", "int8", ""): (SMALL,),
    ("ONNX", "float32", ""): (None, LARGE),  # Winograd's convolutions at one size
    ("ONNX", "int8", ""): (SMALL,),
    ("OpenVINO", "float32", ""): (None, LARGE),
    ("OpenVINO", "float32", "no hint"): (None, LARGE),
    ("OpenVINO", "bfloat16", ""): (None,),
    ("OpenVINO", "int8", ""): (SMALL,),
}


def images_in(folder, count):
    """So many, evenly spread."""
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    return found[:: max(1, len(found) // count)][:count]


def expected_of(model, paths, sizes, folder):
    """Write the photos, each at the next size; Keras' logits of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (path, size) in enumerate(zip(paths, itertools.cycle(sizes))):
        photo = ImageOps.fit(Image.open(path).convert("RGB"), size[::-1])
        photo.save(folder / f"{index}.png")
        np.save(folder / f"{index}.npy", np.asarray(photo))
        yield model.predict(np.asarray(photo, "float32")[None], verbose=0)[0]


def write(kind, precision, model, path, representative, **chosen):
    """Make the export unless it's there."""
    if kind != "SavedModel":
        chosen["precision"] = precision
    if precision == "int8":
        chosen["representative"] = representative
    if not path.exists():
        function = export.saved_model if kind == "SavedModel" else getattr(export, kind.lower())
        function(model, path, **chosen)


def alone(kind, option, path, photos, answers, environments):
    """Run the export in its runtime's environment: version, class names, what else is there."""
    package, home = RUNTIMES[kind], environments / RUNTIMES[kind]
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        progress(f"installing {package}")
        venv.create(home, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", package]
        subprocess.run(install, check=True, stdout=sys.stderr)
    answers.mkdir(exist_ok=True)
    # -I: neither this folder nor PYTHONPATH.
    command = [python, "-I", "-c", START + RUN[kind] + END, package, option]
    done = subprocess.run([*command, path, photos, answers], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path} doesn't run alone:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(args, folder):
    """Print the table; whether a bound was missed."""
    model = keras_psp.PSPNet(weights=args.network)
    paths, representative = images_in(args.photos, 10), images_in(args.representative, 20)
    expected, rows, others, missed = {}, [], {}, False
    turns = [(*names, size) for names, sizes in EXPORTS.items() for size in sizes]
    for kind, precision, option, own in turns:
        name, size = f"{kind} {precision} {option}".strip(), "x".join(map(str, own or ["any"]))
        photos = folder / f"photos-{size}"
        if size not in expected:
            progress(f"Keras, {size}")
            expected[size] = list(expected_of(model, paths, [own] if own else SIZES, photos))
        errors, equal = [], []
        for output in ("classes",) if option == "serve_bytes" else ("logits", "classes"):
            progress(f"{name}, {size}, {output}")
            suffix = {"TFLite": ".tflite", "ONNX": ".onnx"}.get(kind, "")
            path = folder / f"{kind}-{precision}-{size}-{output}{suffix}"
            write(kind, precision, model, path, representative, image_size=own, output=output)
            answers = folder / f"answers-{path.name}-{option}"
            found = alone(kind, option, path, photos, answers, folder / "environments")
            version, names, others[kind] = found
            if names != list(model.class_names or names) or "keras_psp" in others[kind]:
                raise SystemExit(f"{path}: its classes are {names}, beside it are {others[kind]}")
            for index, logits in enumerate(expected[size]):
                found = np.load(answers / f"{index}.npy")
                if output == "logits":
                    errors.append(np.abs(found - logits).max() / np.ptp(logits))
                else:
                    equal.append(np.mean(found == logits.argmax(-1)))
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
    print(f"{len(paths)} photos; {model.num_classes} classes, their names read from each export.")
    print(
        "Of keras_psp, TensorFlow and Keras there were: "
        + "; ".join(f"{k}: {v or 'none'}" for k, v in others.items())
    )
    print(
        "\n| export | runtime | size | MB | logits' error | equal pixels | of the worst photo | |"
    )
    print("|---|---|---|---|---|---|---|---|\n" + "\n".join(rows))
    return missed


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help=".keras file or folder of a training")
    parser.add_argument("photos", type=Path, help="folder; ten are taken")
    parser.add_argument("--representative", type=Path, help="folder, for int8; default: PHOTOS")
    parser.add_argument("--folder", type=Path, help="for files, kept; exports there aren't remade")
    args = parser.parse_args()
    args.representative = args.representative or args.photos
    with tempfile.TemporaryDirectory() as temporary:
        return report(args, args.folder or Path(temporary))


if __name__ == "__main__":
    raise SystemExit(main())
