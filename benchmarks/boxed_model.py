"""Make the network that comes with the package: train, judge, write it in 8 bits, judge again.

    python benchmarks/boxed_model.py --output runs/boxed --plots docs/images

A PSPNet of ResNet-18 on generated scenes (recipe "boxed"), which have no licence to ask for. Under
an hour on two CPU cores; a training that is stopped goes on where it was. The file takes its
place in `keras_psp/weights/boxed`, for `PSPNet.from_preset("pspnet_r18-d8_128x128_scenes")`.
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
    parser.add_argument("--output", type=Path, default=Path("runs/boxed"))
    parser.add_argument("--pictures", type=int, default=4800, help="generated for training")
    default = Path(keras_psp.__file__).parent / "weights" / "boxed" / f"{NAME}.npz"
    parser.add_argument("--file", type=Path, default=default)
    parser.add_argument("--plots", type=Path, help="folder for the curve and a few predictions")
    args = parser.parse_args()
    counts = {"train": args.pictures, "val": 200, "test": 500}
    source = data.GeneratedScenes(image_size=(128, 128), counts=counts)
    run = keras_psp.train("boxed", data=source, output=args.output)
    save_compact(run.model, args.file)

    print(environment(("tensorflow",)))
    print(f"{args.file.name}: {args.file.stat().st_size / 1e6:.1f} MB\n")
    multi_scale = {"scales": SIX_SCALES, "flip": True}
    print("| 500 test pictures | mean IoU | pixel accuracy |\n|---|---|---|")
    boxed = open_compact(args.file)
    for title, model, protocol in (
        ("trained, float32", run.model, {}),
        ("in the box, kernels in 8 bits", boxed, {}),
        (f"in the box, pictures enlarged to {LARGE}", boxed, {"base_size": LARGE}),
        ("in the box, six scales and flip", boxed, multi_scale),
    ):
        found = keras_psp.evaluate(model, source, split="test", **protocol)
        print(f"| {title} | {found.mean_iou:.2%} | {found.pixel_accuracy:.2%} |")
        if model is boxed and not protocol:
            single = found
    print()
    single.print()
    if args.plots:
        args.plots.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.folder / "curve.png", args.plots / "boxed_curve.png")
        draw(boxed, source, args.plots / "boxed_scenes.png")


def draw(model, source, path, shown=48):
    """Of the first test pictures that with the largest boat, car, building and skyscraper each."""
    drawn = data.evaluation_batches(source, split="test", batch_size=shown)
    images, masks = (np.asarray(part) for part in next(iter(drawn)))
    chosen: list[int] = []
    for name in CONTEXT_CLASSES:
        share = (masks == source.class_names.index(name)).mean(axis=(1, 2))
        share[chosen] = 0
        chosen.append(int(share.argmax()))
    found = Segmenter(model, base_size=LARGE).classes(images[chosen].astype("uint8"))
    visual.comparison(
        images[chosen], masks[chosen], found, source.class_names, source.palette, path=path
    )


if __name__ == "__main__":
    main()
