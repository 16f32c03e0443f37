"""Measures operations, XNNPACK coverage, size and speed of the TFLite files.

    python benchmarks/tflite_ops.py
    python benchmarks/tflite_ops.py --networks convnext_tiny

Exports PSPNet-50 and PSPNet-18 (150 classes, random weights, 473x473) in every precision and
runs them alternately in the LiteRT runtime with two threads. Random weights don't affect operations
and sizes; use `keras-psp export --check` for accuracy. "int8, plain" is the graph of the model's
`call`, whose matrix products XNNPACK doesn't support in 8 bits.
"""

import argparse
import collections
import contextlib
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from measure import environment, interleaved, progress, spread

from keras_psp import PSPNet, export
from keras_psp.export import static_graph
from keras_psp.export.graph import inference_function

PLAIN = "int8, plain"
PRECISIONS = ("float32", "float16", "dynamic_int8", "int8", PLAIN)
NETWORKS = {"PSPNet-50": "resnet50", "PSPNet-18": "resnet18"}
FLOATS = (np.float32, np.float16)


def operations(path):
    """The operations in a file, and those that XNNPACK doesn't run.

    Returns:
        Names of all operations, names of those outside of XNNPACK's partitions, the number of
        partitions, and the names of operations with float outputs.
    """
    plain = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    stored = plain._get_ops_details()
    types = {tensor["index"]: tensor["dtype"] for tensor in plain.get_tensor_details()}
    floats = [
        op["op_name"] for op in stored if any(types.get(out) in FLOATS for out in op["outputs"])
    ]
    delegating = Interpreter(model_path=str(path))
    delegating.allocate_tensors()
    partitions = [op for op in delegating._get_ops_details() if op["op_name"] == "DELEGATE"]
    producer = {int(out): index for index, op in enumerate(stored) for out in op["outputs"]}
    covered = set()
    for partition in partitions:
        # A partition replaces the operations between its outputs and its inputs.
        inputs = {int(tensor) for tensor in partition["inputs"]}
        pending = [int(tensor) for tensor in partition["outputs"]]
        while pending:
            tensor = pending.pop()
            if tensor not in inputs and tensor in producer and producer[tensor] not in covered:
                covered.add(producer[tensor])
                pending += [int(other) for other in stored[producer[tensor]]["inputs"]]
    others = [op["op_name"] for index, op in enumerate(stored) if index not in covered]
    return [op["op_name"] for op in stored], others, len(partitions), floats


def plain_function(model, signature, **options):
    network = inference_function(model, in_blocks=False)
    return lambda image: network(image, signature.output)


def write(model, path, size, precision, images):
    context = contextlib.nullcontext()
    if precision == PLAIN:
        context = mock.patch.object(static_graph, "static_function", plain_function)
    precision = precision.removesuffix(", plain")
    representative = images if precision == "int8" else None
    with context:
        export.tflite(
            model,
            path,
            image_size=size,
            precision=precision,
            representative=representative,
            progress=False,
        )


def call(path, image, threads):
    predict = export.open_tflite(path, num_threads=threads)
    return lambda: predict(image)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image-size", type=int, nargs=2, default=(473, 473))
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument(
        "--networks",
        nargs="+",
        default=list(NETWORKS),
        help=f"names of backbones [{' '.join(NETWORKS)}]",
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    size = tuple(args.image_size)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("uint8")

    rows, counts, spaces = [], {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for network in args.networks:
            paths = {name: Path(folder) / f"{network}-{name}.tflite" for name in PRECISIONS}
            model = PSPNet(args.classes, backbone=NETWORKS.get(network, network))
            for precision, path in paths.items():
                progress(f"{network} {precision}")
                write(model, path, size, precision, images)
            del model
            progress(f"{network}: speed")
            calls = {name: call(path, images[:1], args.threads) for name, path in paths.items()}
            times = interleaved(calls, args.repeats)
            del calls
            for precision, path in paths.items():
                names, others, partitions, floats = operations(path)
                outside = [f"{count} {name}" for name, count in collections.Counter(others).items()]
                counts[network, precision] = collections.Counter(names)
                spaces += sum("BATCH_ND" in name or "SPACE_ND" in name for name in names)
                float_names = sorted(set(floats)) if precision.startswith("int8") else ["all"]
                covered = len(names) - len(others)
                share = f"{covered} ({100 * covered / len(names):.1f} %) in {partitions}"
                rows.append(
                    f"| {network} | {precision} | {path.stat().st_size / 1e6:.1f} | {len(names)} | "
                    f"{share} | {', '.join(outside)} | "
                    f"{', '.join(float_names) or 'none'} | {spread(times[precision])} |"
                )
                progress(rows[-1])

    print(
        f"{environment(['tensorflow', 'ai-edge-litert'])}; {size[0]}x{size[1]}, "
        f"{args.classes} classes, {args.threads} threads"
    )
    print("\n| network | precision | MB | operations | run by XNNPACK | others | float | ms |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    print(f"\nSPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND in all files: {spaces}\n")
    kinds = sorted({kind for count in counts.values() for kind in count})
    print("| operation | " + " | ".join(" ".join(key) for key in counts) + " |")
    print("|---" * (len(counts) + 1) + "|")
    for kind in kinds:
        print(f"| {kind} | " + " | ".join(str(count[kind]) for count in counts.values()) + " |")


if __name__ == "__main__":
    main()
