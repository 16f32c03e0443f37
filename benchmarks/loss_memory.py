"""Compares memory and time of the fused losses and gradients with those of full upsampling.

    python benchmarks/loss_memory.py > loss_memory.md
    python benchmarks/loss_memory.py --losses boundary focal dice tversky --memory > losses.md
    python benchmarks/loss_memory.py --losses lovasz --forms fused >> losses.md

The plain form (plain_losses.py) resizes the logits to the masks' size and applies, for the
cross-entropy, the framework's own, averaged over the pixels that are not 255. For "lovasz" it sorts
150 maps of all pixels and keeps them for the gradient, which takes more than 10 GB. Resident memory
is read from /proc (Linux only) with one process per variant. It is an upper bound, because
TensorFlow's first call also compiles and later calls reuse its memory pool. The bound on memory is
on the compiler's figure, which only JAX provides. The bounds are for the cross-entropy, that on the
time not for PyTorch, which runs the loop over blocks in Python. Exit status 1 if one is missed.
"""

import argparse
import ctypes
import gc
import os
import statistics
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops
from measure import MODES, compiled, environment, interleaved, progress, spread
from plain_losses import IGNORED, plain

from keras_psp import losses

VALUE_BOUND, TIME_BOUND, MEMORY_BOUND = 1e-5, 1.0, 0.05
STRIDE = 8
FORMS = ["plain", "fused"]
MODES = {**MODES, "torch": ("eager",)}


def build(args, form, size):
    """A compiled call for value and gradient of one form on random logits and masks."""
    rng = np.random.default_rng(0)
    side = (size - 1) // STRIDE + 1
    shape = (args.batch, side, side, args.classes)
    logits = keras.Variable(3 * rng.standard_normal(shape, "float32"))
    labels = rng.integers(0, args.classes, (args.batch, size, size))
    labels[:, : size // 10] = IGNORED
    masks = keras.Variable(labels, dtype="int32", trainable=False)
    loss = plain(args.loss) if form == "plain" else losses.get(args.loss)
    for part in [] if form == "plain" else loss.parts():
        part.chunk_elements = args.chunk_elements

    def value():
        return loss(ops.convert_to_tensor(masks), ops.convert_to_tensor(logits))

    return compiled(value, [masks], [logits], mode=args.mode)


def resident(key):
    """VmRSS (current) or VmHWM (peak) of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def memory(args):
    """Prints MB: growth of resident memory in one call, and the compiler's plan."""
    # A small call first loads libraries and starts thread pools.
    build(args, args.worker, 41)()
    call = build(args, args.worker, args.size)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    call()
    print(resident("VmHWM") - before)
    if hasattr(call, "executable"):
        plan = call.executable.memory_analysis()
        print((plan.temp_size_in_bytes + plan.output_size_in_bytes) / 2**20)


def measure(args):
    """Prints the rows of this process' backend and mode; returns whether a bound is missed."""
    label = f"{args.loss} | {keras.backend.backend()} {args.mode}"
    missed = False

    def row(what, *, shown, bound, ratio):
        nonlocal missed
        bound = bound if args.loss == "crossentropy" else None
        missed |= bound is not None and not ratio <= bound
        cells = (label, what, *shown, bound or "", f"{ratio:.2g}")
        print(f"| {' | '.join(map(str, cells))} |", flush=True)

    peaks = {}
    for form in args.forms:
        progress(f"{label}: memory, {form}")
        command = [sys.executable, *sys.argv, "--worker", form]  # the last --worker wins
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        peaks[form] = [float(line) for line in output.split()]
    names = ["resident growth, MB", "compiler's temporaries and output, MB"]
    # Resident growth includes a fixed amount for compilation in the first call.
    bounds = [None, MEMORY_BOUND]
    for name, bound, *sizes in zip(names, bounds, *peaks.values(), strict=False):
        by_form = {form: f"{size:.0f}" for form, size in zip(peaks, sizes, strict=True)}
        ratio = sizes[1] / sizes[0] if len(sizes) == 2 else float("nan")
        row(name, shown=[by_form.get(form, "-") for form in FORMS], bound=bound, ratio=ratio)
    if args.memory or len(args.forms) < 2:
        return missed
    progress(f"{label}: time, plain and fused alternating")
    calls = {form: build(args, form, args.size) for form in ("plain", "fused")}
    results = [keras.tree.map_structure(ops.convert_to_numpy, calls[form]()) for form in calls]
    (value, (gradient,)), (fused_value, (fused_gradient,)) = results
    shown = f"{value:.7g}", f"{fused_value:.7g}"
    row("loss", shown=shown, bound=VALUE_BOUND, ratio=abs(fused_value - value) / abs(value))
    shown = [f"{np.abs(g).max():.7g}" for g in (gradient, fused_gradient)]
    ratio = np.abs(fused_gradient - gradient).max() / np.abs(gradient).max()
    row("largest gradient", shown=shown, bound=VALUE_BOUND, ratio=ratio)
    times = interleaved(calls, args.repeats)
    ratio = statistics.median(times["fused"]) / statistics.median(times["plain"])
    shown = [spread(times[form]) for form in ("plain", "fused")]
    bound = None if args.mode == "eager" else TIME_BOUND
    row("time, ms", shown=shown, bound=bound, ratio=ratio)
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=473, help="side of the masks")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--losses", nargs="+", default=["crossentropy"], help="by name, or sums")
    parser.add_argument(
        "--forms", nargs="+", choices=("plain", "fused"), default=["plain", "fused"]
    )
    parser.add_argument("--memory", action="store_true", help="memory only, no times")
    parser.add_argument("--chunk-elements", type=int, help="argument of the losses")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--worker", choices=("rows", "plain", "fused"), help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--loss", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        sys.exit(measure(args) if args.worker == "rows" else memory(args))
    side = (args.size - 1) // STRIDE + 1
    print(f"Logits ({args.batch}, {side}, {side}, {args.classes}), masks {args.size}x{args.size}.")
    print(f"{environment(args.backends)}. Times: median (min to max).\n")
    print("Ratio: fused over plain; for loss and gradient the largest relative difference.\n")
    print("| loss | mode | what | plain | fused | bound | ratio |\n|---|---|---|---|---|---|---|")
    sys.stdout.flush()
    failed = [
        subprocess.run(
            [sys.executable, *sys.argv, "--worker", "rows", "--mode", mode, "--loss", loss],
            env={**os.environ, "KERAS_BACKEND": backend},
        ).returncode
        for loss in args.losses
        for backend in args.backends
        for mode in MODES[backend]
    ]
    sys.exit(any(failed))


if __name__ == "__main__":
    main()
