"""Gives exports of the bundled network to other people's tools, and counts the pixels that agree.

    npm install --prefix web onnxruntime-web
    python -m venv mp && mp/bin/pip install mediapipe
    python -m venv o2 && o2/bin/pip install onnx2tf
    python -m venv cm && cm/bin/pip install coremltools tensorflow torch
    python benchmarks/foreign_tools.py --mediapipe mp/bin/python --onnx2tf o2/bin/python \
        --coremltools cm/bin/python --web web --emulator "qemu-x86_64 -cpu Haswell"

Every tool gets ten generated scenes of 128x144 pixels (the emulator three); "equal" is the share
of the pixels whose class is the network's. Tools that aren't given or installed are named as not
tried. Exit status 1 if float32 pixels differ by more than 0.1 %. Takes ten minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import environment, progress

SIZE, COUNT = (128, 144), 10

START = """
import importlib.metadata, json, pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[1])
saved = np.load(folder / "images.npz")
images, expected = saved["images"], saved["expected"]
def report(package, classes=None, text=None):
    if classes is not None:
        classes = float(np.mean(np.stack(classes) == expected[:len(classes)]))
    print(json.dumps([f"{package} {importlib.metadata.version(package)}", classes, text]))
"""
RUNTIME = """
import onnxruntime
session = onnxruntime.InferenceSession(folder / sys.argv[2])
count = int(sys.argv[3])
report("onnxruntime", [session.run(None, {"image": x[None]})[0][0] for x in images[:count]])
"""
TOOLS = {
    "checker": """
import onnx
for name in ("any.onnx", "fixed.onnx", "int8.onnx"):
    onnx.checker.check_model(onnx.load(folder / name), full_check=True)
report("onnx", text="valid: any size, fixed size, int8")
""",
    "openvino": """
import openvino
run = openvino.compile_model(folder / sys.argv[2], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
report("openvino", [run({"image": x[None]})["classes"][0] for x in images])
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(str(folder / "classes.tflite")).get_signature_runner()
report("ai-edge-litert", [runner(image=x[None])["classes"][0] for x in images])
""",
    "mediapipe": """
import mediapipe
from mediapipe.tasks.python import vision
from mediapipe.tasks.python.core.base_options import BaseOptions
file = BaseOptions(model_asset_path=str(folder / sys.argv[2]))
options = vision.ImageSegmenterOptions(base_options=file, output_category_mask=True)
with vision.ImageSegmenter.create_from_options(options) as segmenter:
    frames = [mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=x) for x in images]
    # Views of results that are gone would be of other memory.
    masks = [segmenter.segment(frame).category_mask.numpy_view().copy() for frame in frames]
    masks = [mask.squeeze() for mask in masks]
    report("mediapipe", masks, f"{len(segmenter.labels)} labels")
""",
    "onnx2tf": """
import onnx2tf, onnx2tf.onnx2tf
import tensorflow as tf
# Images that the tool downloads to compare its own steps.
noise = np.random.default_rng(0).random((20, 128, 128, 3)).astype("float32")
onnx2tf.onnx2tf.download_test_image_data = lambda: noise
onnx2tf.convert(str(folder / "plain.onnx"), output_folder_path=str(folder / "onnx2tf"),
    keep_shape_absolutely_input_names=["image"], non_verbose=True)
interpreter = tf.lite.Interpreter(str(folder / "onnx2tf" / "plain_float32.tflite"))
interpreter.allocate_tensors()
(image,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
def run(x):
    interpreter.set_tensor(image["index"], x[None].astype(image["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(result["index"])[0].copy()
report("onnx2tf", [run(x) for x in images])
""",
    "saved_model_openvino": """
import openvino
try:
    openvino.convert_model(folder / "saved_model")
    report("openvino", text="converted")
except Exception as error:
    (line,) = [x for x in str(error).splitlines() if "No conversion rule" in x]
    report("openvino", text="fails: " + line.strip(" -"))
""",
    "saved_model_tf2onnx": """
import onnxruntime, tf2onnx, subprocess
command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", folder / "saved_model"]
subprocess.run([*command, "--output", folder / "tf.onnx"], check=True, capture_output=True)
try:
    onnxruntime.InferenceSession(folder / "tf.onnx")
    report("tf2onnx", text="converted")
except Exception as error:
    report("tf2onnx", text="writes a file that ONNX Runtime refuses: " + str(error)[:60] + "...")
""",
}
WEB = """
import * as ort from "onnxruntime-web";
import fs from "node:fs";
const [model, images, count, height, width, output] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(model)));
const shape = [count, height, width, 3].map(Number);
const image = new ort.Tensor("uint8", new Uint8Array(fs.readFileSync(images)), shape);
const {classes} = await session.run({image});
fs.writeFileSync(output, await classes.getData());
"""


def prepare(folder):
    """Writes the exports, the images and the network's class maps."""
    from keras_psp import PSPNet, export
    from keras_psp.data.scenes.generated import scene

    model = PSPNet.from_preset("pspnet_r18-d8_128x128_scenes")
    images = np.stack([scene(seed, image_size=SIZE)[0] for seed in range(COUNT)])
    expected = model.predict_classes(images.astype("float32"), verbose=0)
    np.savez(folder / "images.npz", images=images, expected=expected)
    images.tofile(folder / "images.raw")
    fixed = {"image_size": SIZE, "progress": False}
    examples = [scene(seed, image_size=SIZE)[0] for seed in range(1000, 1100)]
    int8 = {**fixed, "precision": "int8", "representative": examples}
    export.onnx(model, folder / "any.onnx", progress=False)
    export.onnx(model, folder / "fixed.onnx", **fixed)
    export.onnx(model, folder / "plain.onnx", batch_size=1, winograd=False, **fixed)
    export.onnx(model, folder / "int8.onnx", **int8)
    export.onnx(model, folder / "int7.onnx", reduce_range=True, **int8)
    export.openvino(model, folder / "openvino", **fixed)
    for output in ("classes", "logits", "probabilities"):
        export.tflite(model, folder / f"{output}.tflite", output=output, **fixed)
    export.saved_model(model, folder / "saved_model")
    core_ml = {"batch_size": 1, "input_dtype": "float32", "output": "logits"}
    export.saved_model(model, folder / "logits", image_size=SIZE, **core_ml)


def attempt(command, program, folder, *arguments):
    """The tool's version, the share of equal pixels, and what else it says; or why it failed."""
    command = [*command, "-c", START + program] if program else command
    command = [*command, folder, *map(str, arguments)]
    # A tool that crashes may leave its threads waiting.
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", None, f"not tried: {error}"
    if done.returncode:
        return "", None, f"not tried: {(done.stderr.splitlines() or ['no reason'])[-1][:200]}"
    return json.loads(done.stdout.splitlines()[-1])


def in_node(packages, folder):
    """The same of ONNX Runtime Web."""
    script, output = packages / "foreign_tools.mjs", folder / "web.raw"
    script.write_text(WEB)
    expected = np.load(folder / "images.npz")["expected"]
    arguments = [folder / "any.onnx", folder / "images.raw", *expected.shape, output]
    done = subprocess.run(["node", script.name, *map(str, arguments)], cwd=packages)
    script.unlink()
    if done.returncode:
        return "", None, "not tried: node failed"
    package = packages / "node_modules" / "onnxruntime-web" / "package.json"
    version = json.loads(package.read_text())["version"]
    classes = np.fromfile(output, "uint8").reshape(expected.shape)
    return f"onnxruntime-web {version}", float(np.mean(classes == expected)), None


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mediapipe", help="a Python with MediaPipe")
    parser.add_argument("--onnx2tf", help="a Python with onnx2tf")
    parser.add_argument("--coremltools", help="a Python with coremltools, tensorflow and torch")
    parser.add_argument("--web", type=Path, help="the folder of node_modules/onnxruntime-web")
    parser.add_argument("--emulator", help="a command that runs this Python on another processor")
    options = parser.parse_args()
    here = [sys.executable]
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress("exporting")
        prepare(folder)

        def tool(key, *arguments, command=here):
            return lambda: attempt(command, TOOLS[key], folder, *arguments)

        def runtime(file, count=COUNT, command=here):
            return lambda: attempt(command, RUNTIME, folder, file, count)

        def other(key, *arguments):
            python = getattr(options, key)
            if python is None:
                return lambda: ("", None, f"not tried: give --{key}")
            if key == "coremltools":
                script = Path(__file__).with_name("core_ml.py")
                return lambda: attempt([python, script], "", folder)
            return tool(key, *arguments, command=[python])

        emulator = [*(options.emulator or "").split(), *here]
        rows = {
            "`onnx.checker.check_model(..., full_check=True)`": tool("checker"),
            "ONNX, any size": runtime("any.onnx"),
            "ONNX, fixed size": runtime("fixed.onnx"),
            "ONNX, any size, WebAssembly in node": lambda: (
                in_node(options.web, folder) if options.web else ("", None, "not tried: give --web")
            ),
            "ONNX, any size, `compile_model`": tool("openvino", "any.onnx"),
            "OpenVINO, `compile_model`": tool("openvino", "openvino/model.xml"),
            "ONNX, fixed size, winograd=False, `convert(..., keep_shape_absolutely_input_names="
            '["image"])`': other("onnx2tf"),
            "TFLite, classes": tool("litert"),
            'TFLite, output="logits", `ImageSegmenter`': other("mediapipe", "logits.tflite"),
            'TFLite, output="probabilities", `ImageSegmenter`': other(
                "mediapipe", "probabilities.tflite"
            ),
            'SavedModel, output="logits", `coremltools.convert`': other("coremltools"),
            "SavedModel, `openvino.convert_model`": tool("saved_model_openvino"),
            "SavedModel, `python -m tf2onnx.convert --saved-model`": tool("saved_model_tf2onnx"),
            "ONNX int8, this processor": runtime("int8.onnx"),
            "ONNX int8, reduce_range, this processor": runtime("int7.onnx"),
        }
        if options.emulator:
            for key, file in (("ONNX int8", "int8.onnx"), ("ONNX int8, reduce_range", "int7.onnx")):
                rows[f"{key}, this processor, 3 images"] = runtime(file, 3)
                rows[f"{key}, `{options.emulator}`, 3 images"] = runtime(file, 3, emulator)
        print(f"{environment(['tensorflow'])}\n")
        print("| tool | file, call | pixels equal to the network's |\n|---|---|---|")
        missed = False
        for call, row in rows.items():
            progress(call)
            version, equal, text = row()
            missed |= equal is not None and "int8" not in call and equal < 0.999
            share = None if equal is None else f"{equal:.3%}"
            result = ", ".join(part for part in (share, text) if part)
            print(f"| {version} | {call} | {result} |", flush=True)
    sys.exit(missed)


if __name__ == "__main__":
    main()
