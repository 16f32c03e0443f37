"""Converts a SavedModel of logits to Core ML and runs the program with PyTorch, also on Linux.

    python benchmarks/core_ml.py FOLDER

Core ML itself only runs on Apple's systems. coremltools reads back what it has written, and its
operations are few. `foreign_tools.py` writes FOLDER/logits and FOLDER/images.npz and calls this.
Needs coremltools, tensorflow and torch.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import coremltools
import numpy as np
import tensorflow as tf
import torch
from coremltools.converters.mil.frontend.milproto.load import load
from torch.nn import functional


def padding_of(values, size, kernel, strides, dilations):
    """PyTorch's padding (left, right, top, bottom) of a convolution or pool."""
    pads = [int(n) for n in values["pad"]] if values["pad_type"] == "custom" else [0, 0, 0, 0]
    if values["pad_type"] == "same":
        pads = []
        for n, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
            needed = max((-(-n // stride) - 1) * stride + (taps - 1) * dilation + 1 - n, 0)
            pads += [needed // 2, needed - needed // 2]
    return [*pads[2:], *pads[:2]]


def convolution(v):
    strides, dilations = (list(map(int, v[name])) for name in ("strides", "dilations"))
    pads = padding_of(v, v["x"].shape[2:], v["weight"].shape[2:], strides, dilations)
    x = functional.pad(v["x"], pads)
    return functional.conv2d(x, v["weight"], v.get("bias"), strides, 0, dilations)


def max_pool(v):
    kernel, strides = (list(map(int, v[name])) for name in ("kernel_sizes", "strides"))
    pads = padding_of(v, v["x"].shape[2:], kernel, strides, (1, 1))
    return functional.max_pool2d(functional.pad(v["x"], pads, value=-np.inf), kernel, strides)


def pad(v):
    assert v["mode"] == "constant"
    pairs = v["pad"].reshape(-1, 2).flip(0).flatten().tolist()
    return functional.pad(v["x"], pairs, value=float(v["constant_val"]))


def slice_by_index(v):
    count = len(v["begin"])
    begin, end = (
        [None if mask else int(n) for n, mask in zip(v[name], v[f"{name}_mask"], strict=True)]
        for name in ("begin", "end")
    )
    return v["x"][tuple(slice(begin[axis], end[axis]) for axis in range(count))]


def matmul(v):
    x, y = (v[name].mT if v[f"transpose_{name}"] else v[name] for name in "xy")
    return x @ y


OPERATIONS = {
    "add": lambda v: v["x"] + v["y"],
    "concat": lambda v: torch.cat(v["values"], int(v["axis"])),
    "conv": convolution,
    "matmul": matmul,
    "max_pool": max_pool,
    "mul": lambda v: v["x"] * v["y"],
    "pad": pad,
    "relu": lambda v: v["x"].relu(),
    "reshape": lambda v: v["x"].reshape(v["shape"].tolist()),
    "slice_by_index": slice_by_index,
    "sub": lambda v: v["x"] - v["y"],
    "transpose": lambda v: v["x"].permute(v["perm"].tolist()),
}


def run(function, image):
    """The output of a program's function."""
    (name,) = function.inputs
    known = {name: torch.tensor(image)}

    def value(variable):
        if isinstance(variable, list | tuple):
            return [value(part) for part in variable]
        if variable is None or variable.val is None:
            return variable and known[variable.name]
        return variable.val if isinstance(variable.val, str) else torch.tensor(variable.val)

    for operation in function.operations:
        if operation.op_type != "const":
            inputs = {key: value(part) for key, part in operation.inputs.items()}
            known[operation.outputs[0].name] = OPERATIONS[operation.op_type](inputs)
    return known[function.outputs[0].name].numpy()


def main():
    """Prints [version, share of equal pixels, None]."""
    folder = Path(sys.argv[1])
    saved = np.load(folder / "images.npz")
    module = tf.saved_model.load(folder / "logits")
    model = coremltools.convert(
        [module.signatures["serving_default"]],
        source="tensorflow",
        compute_precision=coremltools.precision.FLOAT32,
    )
    model.save(folder / "pspnet.mlpackage")
    spec = coremltools.utils.load_spec(str(folder / "pspnet.mlpackage"))
    weights = folder / "pspnet.mlpackage" / "Data" / "com.apple.CoreML" / "weights"
    program = load(spec, spec.specificationVersion, file_weights_dir=f"{weights}/")
    with torch.no_grad():
        logits = [
            run(program.functions["main"], x[None].astype("float32"))[0] for x in saved["images"]
        ]
    equal = np.mean(np.stack(logits).argmax(-1) == saved["expected"])
    version = importlib.metadata.version("coremltools")
    print(json.dumps([f"coremltools {version}", float(equal), "run with PyTorch"]))


if __name__ == "__main__":
    main()
