"""Compares the plain and the factorized fusion convolution of the pyramid.

    python benchmarks/fusion.py > fusion.md

The plain form upsamples the levels (with the faster of two methods), concatenates and applies a
3x3 convolution. Both are measured alone, in the network and in training, alternating in one layer
with one kernel. Exit status 1 if a bound is missed; the bounds on time are for 473x473 on an idle
machine.
"""

import argparse
import os
import statistics
import subprocess
import sys

import keras
import numpy as np
from keras import ops
from measure import MODES, compiled, environment, interleaved, progress, spread

import keras_psp
from keras_psp.layers.pyramid import FactorizedFusion
from keras_psp.layers.resampling import resize_bilinear

ERROR_BOUND = 2e-5  # of the output's range


class PlainFusion(FactorizedFusion):
    """The function as written in the paper, with the same kernel."""

    def upsample(self, level, size):
        return resize_bilinear(level, size, align_corners=True)

    def call(self, inputs):
        features, *levels = inputs
        upsampled = [self.upsample(level, features.shape[1:3]) for level in levels]
        return super().call([ops.concatenate([features, *upsampled], axis=-1)])


class NativePlainFusion(PlainFusion):
    """The plain form with TensorFlow's own resize."""

    def upsample(self, level, size):
        import tensorflow as tf

        return tf.raw_ops.ResizeBilinear(images=level, size=size, align_corners=True)


def compare(what, bound, fusion, function, inputs, trained=(), *, mode, repeats, expected=None):
    """Prints the row of one measurement; returns whether it misses a bound."""
    native = [NativePlainFusion] if keras.backend.backend() == "tensorflow" else []
    calls = {}
    for form in (PlainFusion, *native, FactorizedFusion):
        progress(f"{keras.backend.backend()} {mode}, {what}: {form.__name__}")
        fusion.__class__ = form
        calls[form] = compiled(function, inputs, trained, mode=mode)
    progress("  compiling (XLA can take minutes), then measuring in turns")
    times = interleaved(calls, repeats)
    plain = min((PlainFusion, *native), key=lambda form: statistics.median(times[form]))
    ratio = statistics.median(times[plain]) / statistics.median(times[FactorizedFusion])
    errors = []
    if not trained:
        outputs = [ops.convert_to_numpy(calls[form]()[0]) for form in (plain, FactorizedFusion)]
        expected = outputs[0] if expected is None else expected
        errors = [np.abs(y - expected).max() / np.ptp(expected) for y in outputs]
    print(
        f"| {keras.backend.backend()} {mode} | {what} "
        f"| {' / '.join(f'{error:.1e}' for error in errors)} "
        f"| {spread(times[plain])} {'native' if plain in native else 'matmul'} "
        f"| {spread(times[FactorizedFusion])} | {bound} | {ratio:.2f} |",
        flush=True,
    )
    return not (ratio >= bound and all(error <= ERROR_BOUND for error in errors))


def exact_fusion(features, levels, kernel):
    """The plain form in NumPy with float64."""
    height, width = features.shape[1:3]
    maps = [features.astype("float64")]
    for level in levels:
        bins = level.shape[1]
        rows, columns = (
            np.stack([np.interp(np.linspace(0, bins - 1, n), range(bins), e) for e in np.eye(bins)])
            for n in (height, width)
        )
        maps.append(np.einsum("ah,bw,nabc->nhwc", rows, columns, level, optimize=True))
    x = np.pad(np.concatenate(maps, axis=-1), [(0, 0), (1, 1), (1, 1), (0, 0)])
    exact = 0.0
    for i, j in np.ndindex(3, 3):
        shifted = x[:, i : i + height, j : j + width].reshape(-1, x.shape[-1])
        exact = exact + shifted @ kernel[i, j].astype("float64")
    return exact.reshape(*features.shape[:-1], -1)


def measure(args):
    """Prints the rows of this process' backend; returns whether a bound is missed."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    side = (args.size - 1) // 8 + 1
    shapes = [(1, side, side, 2048), *((1, b, b, 512) for b in (1, 2, 3, 6))]
    arrays = [np.maximum(rng.standard_normal(shape, "float32"), 0) for shape in shapes]
    maps = [keras.Variable(array) for array in arrays]
    fusion = FactorizedFusion(512)
    fusion.build(shapes)
    exact = exact_fusion(arrays[0], arrays[1:], ops.convert_to_numpy(fusion.kernel))

    def block():
        return fusion([ops.convert_to_tensor(x) for x in maps])

    model = keras_psp.PSPNet(150)
    model.compile()
    images = rng.uniform(0, 255, (args.train_batch, args.size, args.size, 3))
    images = keras.Variable(images.astype("float32"), trainable=False)
    masks = rng.integers(0, 150, (args.train_batch, args.size, args.size))
    masks = keras.Variable(masks, dtype="int32", trainable=False)
    weights = model.trainable_variables
    others = [images, masks, *model.non_trainable_variables]

    def forward():
        return model(ops.convert_to_tensor(images)[:1], training=False)

    def step():
        x = ops.convert_to_tensor(images)
        return model.compute_loss(x, ops.convert_to_tensor(masks), model(x, training=True))

    inner = model.get_layer("pyramid_pooling").fusion
    missed = False
    for mode in MODES[keras.backend.backend()]:
        options = {"mode": mode, "repeats": args.repeats}
        trained = [fusion.kernel, *maps]
        missed |= compare("block forward", 1.8, fusion, block, trained, expected=exact, **options)

        def energy():
            return ops.sum(block() ** 2)

        missed |= compare("block forward + backward", 1.8, fusion, energy, [], trained, **options)
        missed |= compare("network forward", 1.2, inner, forward, [*weights, *others], **options)
        what = f"training step, batch {args.train_batch}"
        missed |= compare(what, 1.2, inner, step, others, weights, **options)
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--size", type=int, default=473, help="image side; 1/8 for the block")
    parser.add_argument("--train-batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        sys.exit(measure(args))
    print(f"PSPNet-50, {args.size}x{args.size}. {environment(args.backends)}.")
    print(
        "\nTimes: median ms (min to max). Errors, plain / factorized: relative to the output's "
        f"range, bound {ERROR_BOUND:.0e}; block: against float64, network: against plain."
    )
    print("\n| mode | measured | error | plain | factorized | bound | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    command = [sys.executable, *sys.argv, "--worker"]
    failed = [
        subprocess.run(command, env={**os.environ, "KERAS_BACKEND": name}).returncode
        for name in args.backends
    ]
    sys.exit(any(failed))


if __name__ == "__main__":
    main()
