"""Trains PSPNet-50 on CamVid and evaluates it on the test split.

    python benchmarks/camvid.py --data CAMVID --weights imagenet --output runs/camvid

By default the recipe "camvid" is reduced for two CPU cores: two thirds of the image size, output
stride 16, batch size 8 and 20 epochs. On a GPU, use --full for the recipe itself. The same command
resumes an interrupted training.
"""

import argparse
import sys
import time
from pathlib import Path

from measure import environment

from keras_psp import MeanIoU, data, evaluation, train

SMALL = {
    "image_size": (240, 320),
    "crop_size": (225, 305),
    "output_stride": 16,
    "batch_size": 8,
    "epochs": 20,
    "warmup_steps": 90,
    "validation_epochs": 4,
    "checkpoint_steps": 10,
}


def main():
    """Trains, then prints the table of the test split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="imagenet", help="see PSPNet(weights=...)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--full", action="store_true", help="use the recipe unchanged")
    options = parser.parse_args()
    settings = {} if options.full else SMALL
    weights = None if options.weights == "none" else options.weights
    start = time.perf_counter()
    run = train("camvid", data=options.data, output=options.output, weights=weights, **settings)
    hours = (time.perf_counter() - start) / 3600
    source = data.load("camvid", root=options.data)
    metric = MeanIoU(source.num_classes)
    run.model.compile(metrics=[metric])
    batches = data.evaluation_batches(source, split="test", image_size=settings.get("image_size"))
    run.model.evaluate(batches, verbose=0)
    print(f"{environment(['tensorflow'])}\n\npython benchmarks/camvid.py {' '.join(sys.argv[1:])}")
    print(f"\nthis run took {hours:.2f} hours; test split, {source.count('test')} images:\n")
    evaluation.print_class_table(metric, source.class_names)


if __name__ == "__main__":
    main()
