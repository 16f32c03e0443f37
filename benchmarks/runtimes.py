"""Compares the speed of every export with the authors' PyTorch network and its plain exports.

    python benchmarks/runtimes.py --semseg semseg --folder runtimes

PSPNet-50, 473x473, 150 classes, random weights, two threads: each computes the class map of one
image. Each runs in a separate process, and they alternate. With `--batches 1 2 4 8 --threads 1 2`
there is one table for each number of threads, with milliseconds per image and a column for each
batch; TFLite files take one image per call. `--smp` is a checkout of
segmentation_models.pytorch, whose PSPNet of that name is a different, much smaller network with
two residual stages and no dilation; it gets 480x480. Needs torch, onnxruntime, openvino, nncf and
ai-edge-litert. The folder keeps the files for the next run.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from measure import Worker, environment, progress

SIZE, CLASSES = (473, 473), 150
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
AUTHORS = ("authors' PyTorch", "authors' torch.compile", "authors' bfloat16")
PLAIN = ("their ONNX in ONNX Runtime", "their ONNX in OpenVINO", "their ONNX in OpenVINO bfloat16")
OURS = {
    "SavedModel": ("saved_model", "saved_model", {}),
    "TFLite float32": ("tflite", "float32.tflite", {}),
    "TFLite int8": ("tflite", "int8.tflite", {"precision": "int8"}),
    "ONNX float32": ("onnx", "float32.onnx", {}),
    "ONNX int8": ("onnx", "int8.onnx", {"precision": "int8"}),
    "OpenVINO float32": ("openvino", "openvino", {}),
    "OpenVINO bfloat16": ("openvino", "openvino_bfloat16", {"precision": "bfloat16"}),
    "OpenVINO int8": ("openvino", "openvino_int8", {"precision": "int8"}),
}


def image():
    from keras_psp.data.scenes.generated import scene

    return scene(0, image_size=SIZE)[0]


def authors_network(options):
    """The authors' network with random weights, the same in every process."""
    import torch

    sys.path.insert(0, str(options.semseg))
    from model.pspnet import PSPNet

    torch.manual_seed(0)
    network = PSPNet(layers=50, classes=CLASSES, zoom_factor=8, pretrained=False)
    torch.nn.init.normal_(network.cls[4].weight, std=0.1)
    # Realistic BatchNorm statistics, without which the activations overflow 8 bits.
    from keras_psp.data.scenes.generated import scene

    images = np.stack([scene(seed, image_size=(185, 185))[0] for seed in range(8)])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # cumulative mean
    with torch.no_grad():
        network.train()(normalized(images), torch.zeros(8, 185, 185, dtype=torch.long))
    return network.eval()


def normalized(images):
    import torch

    return torch.from_numpy(((images - MEAN) / STD).astype("float32").transpose(0, 3, 1, 2).copy())


def prepare(options):
    """Writes all missing files."""
    import torch

    from keras_psp import export
    from keras_psp.data.scenes.generated import scene
    from keras_psp.weights import convert

    network = authors_network(options)
    torch.save(network.state_dict(), options.folder / "weights.pth")
    plain = options.folder / "plain.onnx"
    if not plain.exists():

        class Classes(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.network = network

            def forward(self, x):
                return self.network(x).argmax(1)

        names = {"input_names": ["image"], "dynamic_axes": {"image": {0: "batch"}}}
        image = torch.zeros(1, 3, *SIZE)
        torch.onnx.export(Classes().eval(), (image,), plain, dynamo=False, **names)
    model = convert(options.folder / "weights.pth", verbose=False)
    representative = [scene(seed, image_size=SIZE)[0] for seed in range(1, 21)]
    for name, (function, file, settings) in OURS.items():
        if (options.folder / file).exists() or not is_wanted(name, options):
            continue
        progress(name)
        if settings.get("precision") == "int8":
            settings = {**settings, "representative": representative}
        getattr(export, function)(model, options.folder / file, image_size=SIZE, **settings)


def is_wanted(name, options):
    return not options.only or any(part.lower() in name.lower() for part in options.only)


def opened(name, options):
    """A call from images to their class maps, and the file of the network."""
    threads = options.threads[0]
    if name in OURS:
        from keras_psp.export import open_export

        path = options.folder / OURS[name][1]
        return open_export(path, num_threads=threads), path
    if name in PLAIN:
        return opened_plain(name, options.folder / "plain.onnx", threads)
    import torch

    torch.set_num_threads(threads)
    if name == "segmentation_models.pytorch":
        sys.path[:0] = [str(options.smp), str(Path(__file__).parent / "parity/peers")]
        from common import import_torchvision

        import_torchvision()
        import segmentation_models_pytorch as smp

        network = smp.PSPNet("resnet50", encoder_weights=None, classes=CLASSES).eval()
    else:
        network = authors_network(options)
    if name == "authors' torch.compile":
        network = torch.compile(network)
    half = name == "authors' bfloat16"

    padding = [(0, -n % 8) for n in SIZE] if name == "segmentation_models.pytorch" else [(0, 0)] * 2

    def run(x):
        x = np.pad(x, [(0, 0), *padding, (0, 0)])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return network(normalized(x)).argmax(1).numpy()[:, : SIZE[0], : SIZE[1]]

    return run, options.folder / "weights.pth"


def opened_plain(name, path, threads):
    if "Runtime" in name:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, settings)
        key = session.get_inputs()[0].name
        return lambda x: session.run(None, {key: normalized(x).numpy()})[0], path
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if "bfloat16" in name else "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda x: request.infer([normalized(x).numpy()])[0], path


def work(name, options):
    """Segments a batch per line of stdin, its size, and prints milliseconds and peak memory."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(options.threads[0])
    x = image()[None]
    run, path = opened(name, options)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    classes = run(x)
    np.save(options.folder / f"{name}.npy", classes)
    print(json.dumps(size), flush=True)
    for line in sys.stdin:
        batch = np.repeat(x, int(line), axis=0)
        start = time.perf_counter()
        run(batch)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([1e3 * seconds, peak]), flush=True)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", required=True, type=Path)
    parser.add_argument("--smp", type=Path)
    parser.add_argument("--folder", required=True, type=Path, help="keeps all files")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[1], help="images per call [1]")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="[2]")
    parser.add_argument("--only", nargs="+", metavar="PART", help="rows to measure")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work == "prepare":
        prepare(options)
        return
    if options.work:
        work(options.work, options)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    arguments = sys.argv[1:]
    subprocess.run([sys.executable, __file__, *arguments, "--work", "prepare"], check=True)
    names = [*AUTHORS, *PLAIN, *OURS]
    if options.smp:
        names.append("segmentation_models.pytorch")
    names = [name for name in names if name == AUTHORS[0] or is_wanted(name, options)]
    versions = ["tensorflow", "torch", "onnxruntime", "openvino", "ai-edge-litert"]
    print(f"{environment(versions)}\n")
    for threads in options.threads:
        measure(names, threads, options, arguments)


def measure(names, threads, options, arguments):
    """Prints the table for a number of threads."""
    workers = {}
    for name in names:
        progress(f"starting {name}, {threads} threads")
        workers[name] = Worker(*arguments, "--work", name, "--threads", str(threads))
    # TFLite files take one image: open_export would give them the images of a batch in turn.
    calls = [
        (name, batch)
        for batch in options.batches
        for name in names
        if batch == 1 or "TFLite" not in name
    ]
    times, memory = {call: [] for call in calls}, {}
    for turn in range(options.rounds + 1):
        for name, batch in calls:
            milliseconds, memory[name] = workers[name](batch)
            if turn:
                times[name, batch].append(milliseconds / batch)
        progress(f"round {turn} of {options.rounds}")
    sizes = {name: worker.greeting / 1e6 for name, worker in workers.items()}
    if options.batches == [1]:
        print_ratios(names, {name: times[name, 1] for name in names}, sizes, memory, options)
    else:
        print_batches(names, times, memory, threads, options)


def print_batches(names, times, memory, threads, options):
    """Milliseconds per image, and of the authors' time for the same batch, for each batch."""
    columns = " | ".join(f"batch {batch}" for batch in options.batches)
    print(f"\nThreads: {threads}. Milliseconds per image (relative to the authors')\n")
    print(f"| | {columns} | peak memory |\n|---|{'---|' * (len(options.batches) + 1)}")
    for name in names:
        cells = []
        for batch in options.batches:
            spent = times.get((name, batch))
            if spent is None:
                cells.append("takes one image")
                continue
            pairs = zip(spent, times[AUTHORS[0], batch], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            cells.append(f"{statistics.median(spent):.0f} ({ratio:.2f})")
        print(f"| {name} | {' | '.join(cells)} | {memory[name]:.0f} MB |")


def print_ratios(names, times, sizes, memory, options):
    """The table of one image per call."""
    median = {name: statistics.median(values) for name, values in times.items()}
    expected = np.load(options.folder / f"{AUTHORS[0]}.npy")
    plain = min((median[name] for name in PLAIN[:2] if name in median), default=float("nan"))
    print(
        "| | ms, median (min to max) | relative to the authors' | to the best plain export | MB | "
        "peak memory | pixels equal to the authors' |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in names:
        spent = times[name]
        ratios = [a / b for a, b in zip(spent, times[AUTHORS[0]], strict=True)]
        equal = np.mean(np.load(options.folder / f"{name}.npy") == expected)
        print(
            f"| {name} | {median[name]:.0f} ({min(spent):.0f} to {max(spent):.0f}) "
            f"| {statistics.median(ratios):.2f} | {median[name] / plain:.2f} "
            f"| {sizes[name]:.0f} | {memory[name]:.0f} MB | {100 * equal:.2f} % |"
        )


if __name__ == "__main__":
    main()
