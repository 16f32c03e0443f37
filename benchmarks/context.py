"""Compares how PSPNet and the dilated FCN use context on generated scenes.

    python benchmarks/context.py --seeds 0 1 2

In the generated scenes, the same shape is a boat or a car, or a building or a skyscraper,
depending on the rest of the image. Both networks are trained from scratch on the same images in
the same order with the same schedule. Finished rows are kept in --results, and the same command
resumes an interrupted run.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_psp
from keras_psp import data
from keras_psp.data.scenes.classes import CONTEXT_CLASSES


def train_and_evaluate(source, *, pyramid, seed, args):
    keras.utils.set_random_seed(seed)
    model = keras_psp.PSPNet(
        source.num_classes,
        backbone=keras_psp.DilatedResNet(
            18, output_stride=args.output_stride, stem_filters=(64,), name="backbone"
        ),
        bin_sizes=(1, 2, 3, 6) if pyramid else (),
    )
    batches = data.training_batches(
        source, batch_size=8, crop_size=args.size, scale=(1.0, 1.0), seed=seed
    )
    steps = args.epochs * len(batches)
    schedule = keras_psp.PolyLearningRate(0.02, steps, warmup_steps=steps // 20)
    model.compile(keras_psp.SGD(schedule, head_multiplier=1.0))
    start = time.perf_counter()
    model.fit(batches, epochs=args.epochs, verbose=2 if args.verbose else 0)
    seconds = time.perf_counter() - start
    metric = keras_psp.MeanIoU(source.num_classes)
    model.compile(metrics=[metric])
    model.evaluate(data.evaluation_batches(source, split="test"), verbose=0)
    ious = dict(zip(source.class_names, metric.per_class_iou(), strict=True))
    return {
        "context": float(np.mean([ious[name] for name in CONTEXT_CLASSES])),
        "mean": float(metric.result()),
        "pixel accuracy": metric.pixel_accuracy(),
        **{name: float(iou) for name, iou in ious.items()},
        "seconds": round(seconds),
    }


def rows(args):
    """Yields one dict per seed and network, from the results file or a training."""
    path, settings = args.results, f"{args.size}/{args.output_stride}/{args.epochs}"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {(row["settings"], row["seed"], row["network"]): row for row in done}
    for seed in args.seeds:
        source = data.GeneratedScenes(seed=seed, image_size=(args.size, args.size))
        for network in ("PSPNet", "FCN"):
            row = known.get((settings, seed, network))
            if row is None:
                print(f"seed {seed}: training {network} ...", file=sys.stderr, flush=True)
                row = {"settings": settings, "seed": seed, "network": network}
                row |= train_and_evaluate(source, pyramid=network == "PSPNet", seed=seed, args=args)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--output-stride", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--results", type=Path, default=Path("runs/context.jsonl"))
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    results = list(rows(args))

    columns = ("context", *CONTEXT_CLASSES, "mean", "pixel accuracy")
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, test split, IoU in %")
    print(f"| seed | network | {' | '.join(columns)} | seconds |")
    print("|" + "---|" * (len(columns) + 3))
    for row in results:
        figures = " | ".join(f"{100 * row[column]:.1f}" for column in columns)
        print(f"| {row['seed']} | {row['network']} | {figures} | {row['seconds']} |")
    for column in ("context", "mean"):
        by = {(row["seed"], row["network"]): row[column] for row in results}
        gains = [100 * (by[seed, "PSPNet"] - by[seed, "FCN"]) for seed in args.seeds]
        spread = f" +- {np.std(gains, ddof=1):.1f}" if len(gains) > 1 else ""
        print(f"\nPSPNet minus FCN, {column}: {np.mean(gains):+.1f}{spread} points")


if __name__ == "__main__":
    main()
