"""Trains the network that comes with the package and evaluates it before and after compression.

    python benchmarks/bundled_model.py --output runs/bundled --plots docs/images

A PSPNet with ResNet-18 on generated scenes (recipe "bundled"), whose images have no license
restrictions. Takes under an hour on two CPU cores; the same command resumes an interrupted
training. The file, with 8-bit kernels, goes to `keras_psp/weights/bundled` for
`PSPNet.from_preset("pspnet_r18-d8_128x128_scenes")`.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from measure import environment

import keras_psp
from keras_psp import data, visual
from keras_psp.data.scenes.classes import CONTEXT_CLASSES
from keras_psp.prediction import Segmenter
from keras_psp.prediction.protocol import SIX_SCALES
from keras_psp.weights.compact import open_compact, save_compact
from keras_psp.weights.presets import find_preset

NAME = "pspnet_r18-d8_128x128_scenes"
LARGE = find_preset(NAME).base_size


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bundled"))
    parser.add_argument("--images", type=int, default=4800, help="generated training images")
    default = Path(keras_psp.__file__).parent / "weights" / "bundled" / f"{NAME}.npz"
    parser.add_argument("--file", type=Path, default=default, help="compressed weights to write")
    parser.add_argument("--plots", type=Path, help="folder for the curves and a few predictions")
    args = parser.parse_args()
    counts = {"train": args.images, "val": 200, "test": 500}
    source = data.GeneratedScenes(image_size=(128, 128), counts=counts)
    run = keras_psp.train("bundled", data=source, output=args.output)
    save_compact(run.model, args.file)

    print(environment(("tensorflow",)))
    print(f"{args.file.name}: {args.file.stat().st_size / 1e6:.1f} MB\n")
    multi_scale = {"scales": SIX_SCALES, "flip": True}
    print("| 500 test images | mean IoU | pixel accuracy |\n|---|---|---|")
    bundled = open_compact(args.file)
    for title, model, protocol in (
        ("trained, float32", run.model, {}),
        ("bundled, 8-bit kernels", bundled, {}),
        (f"bundled, images enlarged to {LARGE}", bundled, {"base_size": LARGE}),
        ("bundled, six scales and flip", bundled, multi_scale),
    ):
        result = keras_psp.evaluate(source, model, split="test", **protocol)
        print(f"| {title} | {result.mean_iou:.2%} | {result.pixel_accuracy:.2%} |")
        if model is bundled and not protocol:
            single_scale = result
    print()
    single_scale.print()
    if args.plots:
        args.plots.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.folder / "curve.png", args.plots / "bundled_curve.png")
        draw(bundled, source, args.plots / "bundled_scenes.png")


def draw(model, source, path, count=48):
    """Draws four of the first test images: the largest boat, car, building and skyscraper."""
    batches = data.evaluation_batches(source, split="test", batch_size=count)
    images, masks = (np.asarray(part) for part in next(iter(batches)))
    chosen: list[int] = []
    for name in CONTEXT_CLASSES:
        share = (masks == source.class_names.index(name)).mean(axis=(1, 2))
        share[chosen] = 0
        chosen.append(int(share.argmax()))
    classes = Segmenter(model, base_size=LARGE).classes(images[chosen].astype("uint8"))
    visual.comparison(
        images[chosen], masks[chosen], classes, source.class_names, source.palette, path=path
    )


if __name__ == "__main__":
    main()
