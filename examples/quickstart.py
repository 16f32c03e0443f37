"""Trains a small PSPNet, evaluates it, draws its predictions and exports it.

python examples/quickstart.py                    # generated scenes, no download
python examples/quickstart.py --data FOLDER      # your images/ and labels/, or train/ and test/
python examples/quickstart.py --baseline         # the same network without the pyramid
"""

import argparse
import math
import sys
import time
from pathlib import Path

import keras_psp  # before Keras, so that TensorFlow's log is hidden

# isort: split
import keras
import numpy as np

from keras_psp import data, evaluation, export, visual

VERBOSE = 1 if sys.stdout.isatty() else 2  # a bar, or a line per epoch in a file


def main():
    options = parse_options()
    keras.utils.set_random_seed(options.seed)
    source, test_split, image_size = open_source(options)
    print("{} classes, images of {}x{}".format(source.num_classes, *image_size))

    name = "fcn" if options.baseline else "pspnet"
    model = small_pspnet(source, options)
    train(model, source, image_size, options)
    options.output.mkdir(parents=True, exist_ok=True)
    model.save(options.output / f"{name}.keras")

    evaluate(model, source, test_split, image_size)
    images = draw(model, source, test_split, image_size, options.output / f"{name}.png")
    if keras.backend.backend() != "tensorflow":
        raise SystemExit("These exports need TensorFlow; open the .keras file with it.")
    export_and_compare(model, images, options.export / name, image_size)


def open_source(options):
    """Returns the examples, the split to test on, and the image size."""
    if options.data is None:
        image_size = options.image_size or (96, 96)
        return data.GeneratedScenes(seed=options.seed, image_size=image_size), "test", image_size
    source = data.ImageFolder(options.data)
    test_split = next((name for name in ("test", "val") if name in source.splits), None)
    if test_split is None or "train" not in source.splits:
        raise SystemExit(f"{options.data} needs train/ and test/ (or val/), or only images/.")
    source.check()
    height, width = source.sizes(test_split)[0]
    halvings = max(0, math.ceil(math.log2(max(height, width) / 256)))
    return source, test_split, options.image_size or (height >> halvings, width >> halvings)


def small_pspnet(source, options):
    """A narrow stem and output stride 16 make the network cheap enough for two CPU cores."""
    backbone = keras_psp.DilatedResNet(
        options.backbone_depth,
        output_stride=options.output_stride or (8 if options.data else 16),
        stem_filters=(64,),
        name="backbone",
    )
    return keras_psp.PSPNet(
        source.num_classes,
        backbone=backbone,
        bin_sizes=() if options.baseline else (1, 2, 3, 6),
        class_names=source.class_names,
        palette=source.palette,
    )


def train(model, source, image_size, options):
    """Trains with random scales, crops and flips, and the poly learning rate."""
    batches = data.training_batches(
        source,
        batch_size=options.batch_size,
        crop_size=options.crop or image_size,
        image_size=image_size,
        scale=(0.75, 1.5),
        seed=options.seed,
    )
    epochs = options.epochs or (15 if options.data else 10)
    steps = epochs * len(batches)
    schedule = keras_psp.PolyLearningRate(options.learning_rate, steps, warmup_steps=steps // 20)
    model.compile(
        keras_psp.SGD(schedule, head_multiplier=1.0),  # nothing is pretrained
        metrics=[keras_psp.MeanIoU(source.num_classes)],
    )
    start = time.perf_counter()
    model.fit(batches, epochs=epochs, verbose=VERBOSE)
    print(f"trained {steps} steps in {(time.perf_counter() - start) / 60:.1f} minutes")


def evaluate(model, source, split, image_size):
    """Prints the IoU of each class, mean IoU and pixel accuracy."""
    metric = keras_psp.MeanIoU(source.num_classes)
    model.compile(metrics=[metric])
    print(f"\n{split} split, {source.count(split)} images:")
    batches = data.evaluation_batches(source, split=split, image_size=image_size)
    model.evaluate(batches, verbose=0)
    evaluation.print_class_table(metric, source.class_names)


def draw(model, source, split, image_size, path):
    """Draws predictions for six images, and returns the images."""
    batches = data.evaluation_batches(source, split=split, image_size=image_size, batch_size=1)
    examples = batches.shard(max(1, source.count(split) // 6), 0).take(6).as_numpy_iterator()
    images, masks = zip(*examples, strict=True)
    images, masks = np.concatenate(images), [mask[0] for mask in masks]  # masks of any sizes
    classes = model.predict_classes(images, verbose=0)
    visual.comparison(images, masks, classes, source.class_names, source.palette, path=path)
    print(f"\nimages and predictions: {path}")
    return images


def export_and_compare(model, images, path, image_size):
    """Exports the model, and compares the exports' predictions with the model's."""
    saved_model, tflite = f"{path}_saved_model", f"{path}.tflite"
    export.saved_model(model, saved_model)
    export.tflite(model, tflite, image_size=image_size)
    classes = model.predict_classes(images, verbose=0)
    for file in (saved_model, tflite):
        equal = np.mean(export.open_export(file)(images) == classes)
        print(f"{file}: {100 * equal:.3f} % of pixels equal")


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, size = parser.add_argument, {"type": int, "nargs": 2, "metavar": ("H", "W")}
    add("--data", type=Path, help="folder with images/ and labels/")
    add("--image-size", **size, help="[96 96; with --data, at most 256 for the longer side]")
    add("--crop", **size, help="[the whole image]")
    add("--backbone-depth", type=int, default=18, help="[18]")
    add("--output-stride", type=int, help="[16; with --data, 8]")
    add("--epochs", type=int, help="[10; with --data, 15]")
    add("--batch-size", type=int, default=8, help="[8]")
    add("--learning-rate", type=float, default=0.02, help="[0.02]")
    add("--seed", type=int, default=0, help="[0]")
    add("--baseline", action="store_true", help="leave out the pyramid")
    add("--output", type=Path, default=Path("runs/quickstart"), help="[runs/quickstart]")
    add("--export", type=Path, default=Path("saved_models"), help="[saved_models]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
