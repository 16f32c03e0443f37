"""Train a small PSPNet, judge it, draw its predictions, and export it.

python examples/quickstart.py                    # generated scenes, no download
python examples/quickstart.py --data FOLDER      # images/ and labels/, or train/ val/ test/
python examples/quickstart.py --baseline         # the dilated FCN, without the pyramid
"""

import argparse
import math
import time
from pathlib import Path

import keras
import numpy as np

import keras_psp
from keras_psp import data, evaluation, export, visual


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of images/ and labels/")
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size the network sees (default: 96 96; with --data, the first picture's own, "
        "halved until its longer side is at most 256)",
    )
    parser.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), help="default: all of it")
    parser.add_argument("--backbone-depth", type=int, default=18)
    parser.add_argument("--output-stride", type=int, help="default: 16; with --data, 8")
    parser.add_argument("--epochs", type=int, help="default: 8; with --data, 15")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baseline", action="store_true", help="leave the pyramid out")
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--export", type=Path, default=Path("saved_models"))
    args = parser.parse_args()
    # Minutes on two CPU cores, with or without real pictures.
    args.output_stride = args.output_stride or (8 if args.data else 16)
    args.epochs = args.epochs or (15 if args.data else 8)
    return args


def open_source(args):
    """The examples, checked; sets `args.image_size`."""
    args.test = "test"
    if args.data is None:
        args.image_size = args.image_size or (96, 96)
        return data.GeneratedScenes(seed=args.seed, image_size=args.image_size)
    source = data.ImageFolder(args.data)
    args.test = next((name for name in ("test", "val") if name in source.splits), None)
    if args.test is None or "train" not in source.splits:
        raise SystemExit(f"{args.data}: train/ and test/ (or val/) are needed, or only images/.")
    source.check()
    if args.image_size is None:
        height, width = source.sizes(args.test)[0]
        halvings = max(0, math.ceil(math.log2(max(height, width) / 256)))
        args.image_size = height >> halvings, width >> halvings
    return source


def small_pspnet(source, args):
    """ResNet with one narrow stem convolution: cheap enough for two CPU cores."""
    return keras_psp.PSPNet(
        source.num_classes,
        class_names=source.class_names,
        palette=source.palette,
        backbone=keras_psp.DilatedResNet(
            args.backbone_depth,
            output_stride=args.output_stride,
            stem_filters=(64,),
            name="backbone",
        ),
        bin_sizes=() if args.baseline else (1, 2, 3, 6),
    )


def train(model, source, args):
    batches = data.training_batches(
        source,
        batch_size=args.batch_size,
        crop_size=args.crop or args.image_size,
        image_size=args.image_size,
        scale=(0.75, 1.5),
        seed=args.seed,
    )
    steps = args.epochs * len(batches)
    schedule = keras_psp.PolyLearningRate(args.learning_rate, steps, warmup_steps=steps // 20)
    model.compile(
        optimizer=keras_psp.SGD(schedule, head_multiplier=1.0),  # nothing is pretrained here
        metrics=[keras_psp.MeanIoU(source.num_classes)],
    )
    start = time.perf_counter()
    model.fit(batches, epochs=args.epochs)
    print(f"trained {steps} steps in {(time.perf_counter() - start) / 60:.1f} minutes")


def judge(model, source, args):
    """Mean IoU, pixel accuracy and the per-class table on the test (else val) split."""
    metric = keras_psp.MeanIoU(source.num_classes)
    model.compile(metrics=[metric])
    batches = data.evaluation_batches(source, split=args.test, image_size=args.image_size)
    print(f"\n{args.test} split, {source.count(args.test)} images:")
    model.evaluate(batches)
    evaluation.print_class_table(metric, source.class_names)


def main():
    args = arguments()
    keras.utils.set_random_seed(args.seed)
    source = open_source(args)
    print("{} classes, pictures of {}x{}".format(source.num_classes, *args.image_size))
    model = small_pspnet(source, args)
    name = "fcn" if args.baseline else "pspnet"
    args.output.mkdir(parents=True, exist_ok=True)
    train(model, source, args)
    model.save(args.output / f"{name}.keras")
    judge(model, source, args)

    pictures = data.evaluation_batches(
        source, split=args.test, image_size=args.image_size, batch_size=1
    )
    spread = list(
        pictures.shard(max(1, source.count(args.test) // 6), 0).take(6).as_numpy_iterator()
    )
    images = np.concatenate([image for image, _ in spread])
    truths = [mask[0] for _, mask in spread]
    picture = args.output / f"{name}.png"
    classes = model.predict_classes(images, verbose=0)
    visual.comparison(images, truths, classes, source.class_names, source.palette, path=picture)
    print(f"\npicture: {picture}")

    if keras.backend.backend() != "tensorflow":
        raise SystemExit("no export: it needs KERAS_BACKEND=tensorflow; open the .keras file there")
    folder, file = args.export / f"{name}_saved_model", args.export / f"{name}.tflite"
    export.saved_model(model, folder)
    export.tflite(model, file, image_size=args.image_size)
    for path in (folder, file):
        equal = np.mean(export.open_export(path)(images) == classes)
        print(f"{path}: {100 * equal:.3f} % of pixels equal")


if __name__ == "__main__":
    main()
