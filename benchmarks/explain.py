"""Checks that the parts of `keras_psp.explain` add up to the logits, and times it beside `predict`.

    python benchmarks/explain.py > explain.md

Sums: networks of every variant with random weights and statistics, on random images of 473x473 and
329x241, all classes, against `predict_low_resolution`, which knows nothing of parts. The error is
the largest one divided by the range of the logits.

Times: PSPNet-50 with 150 classes, one image of 473x473, alternating in one process. `explain` is
the call and the parts of a difference of two classes at the image's size; "with context" adds the
classes without the pyramid and the level that decides. Exit status 1 if an error is above 1e-5 or
a ratio of `explain` to `predict` above 1.5.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ERROR_BOUND, RATIO_BOUND = 1e-5, 1.5
SIZES = (473, 473), (329, 241)
VARIANTS = {
    "average pooling": {},
    "max pooling": {"pooling": "max"},
    "without reduction": {"reduction": None},
    "max pooling without reduction": {"pooling": "max", "reduction": None},
    "1x1 fusion, 3x3 classifier": {"fusion_kernel_size": 1, "classifier_kernel_size": 3},
    "align_corners=False, bias for one bin": {"align_corners": False, "normalize_global": False},
    "bins 1, 4": {"bin_sizes": (1, 4)},
    "no pyramid": {"bin_sizes": ()},
    "output stride 16": {"output_stride": 16},
    "MobileNetV3": {"backbone": "mobilenet_v3_small", "output_stride": 16},
    "EfficientNet-Lite0": {"backbone": "efficientnet_lite0", "output_stride": 16},
}
CLASSES, PASSES = 19, 20


def random_network(arguments):
    """PSPNet whose BatchNorm has statistics of its maps and random weights: no part is trivial."""
    import keras
    import numpy as np

    import keras_psp

    keras.utils.set_random_seed(0)
    model = keras_psp.PSPNet(CLASSES, aux_weight=0, **{"backbone": "resnet18", **arguments})
    rng = np.random.default_rng(0)
    # With its initial statistics, the maps of a MobileNet would be nearly constant.
    images = rng.integers(0, 256, (2, 97, 97, 3)).astype("float32")
    for _ in range(PASSES):
        model(images, training=True)
    norm = model.get_layer("pyramid_pooling").norm
    norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
    norm.beta.assign(rng.normal(size=norm.beta.shape))
    return model


def sum_errors(sizes):
    """Yields (variant, size, error)."""
    import numpy as np
    from measure import progress

    import keras_psp

    for name, arguments in VARIANTS.items():
        model = random_network(arguments)
        for size in sizes:
            progress(f"{name}, {size[0]}x{size[1]}")
            image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype("uint8")
            explanation = keras_psp.explain(image, model)
            logits = model.predict_low_resolution(image[None])[0]
            errors = [
                np.abs(explanation.low_resolution_parts(index).sum(axis=0) - logits[..., index])
                for index in range(CLASSES)
            ]
            yield name, f"{size[0]}x{size[1]}", float(np.max(errors) / np.ptp(logits))


def times(repeats):
    """Milliseconds of each call."""
    import numpy as np
    from measure import interleaved

    import keras_psp

    model = keras_psp.PSPNet(150, aux_weight=0)
    image = np.random.default_rng(2).integers(0, 256, (473, 473, 3)).astype("uint8")

    def explain(context):
        explanation = keras_psp.explain(image, model)
        explanation.parts(12, 20)
        if context:
            explanation.context()

    calls = {
        "predict": lambda: keras_psp.predict(image, model),
        "explain": lambda: explain(False),
        "explain with context": lambda: explain(True),
    }
    return interleaved(calls, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        found = {"errors": list(sum_errors(SIZES)), "times": times(args.repeats)}
        print(json.dumps(found))
        return
    from measure import environment, spread

    print("# Exact parts, and the time of `explain`\n\n    python benchmarks/explain.py\n")
    print(f"{environment(args.backends)}.\n")
    results = {}
    for backend in args.backends:
        done = subprocess.run(
            [sys.executable, __file__, "--worker", "--repeats", str(args.repeats)],
            env={**os.environ, "KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        results[backend] = json.loads(done.stdout.splitlines()[-1])
    failed = False
    print(f"Error of the sum of the parts, of the logits' range (bound {ERROR_BOUND:g}):\n")
    print(f"| network | image | {' | '.join(args.backends)} |")
    print("|---|---|" + "---|" * len(args.backends))
    for rows in zip(*(results[backend]["errors"] for backend in args.backends), strict=True):
        errors = [error for _, _, error in rows]
        failed |= max(errors) > ERROR_BOUND
        print(f"| {rows[0][0]} | {rows[0][1]} | {' | '.join(f'{e:.1e}' for e in errors)} |")
    print(f"\nMilliseconds, median (min to max); ratio of the medians, bound {RATIO_BOUND}:\n")
    print("| backend | predict | explain | ratio | explain with context | ratio |")
    print("|---|---|---|---|---|---|")
    for backend in args.backends:
        predict, *others = results[backend]["times"].values()
        cells = [backend, spread(predict)]
        for other in others:
            ratio = statistics.median(other) / statistics.median(predict)
            failed |= ratio > RATIO_BOUND
            cells += [spread(other), f"{ratio:.2f}"]
        print(f"| {' | '.join(cells)} |")
    sys.exit(int(failed))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
