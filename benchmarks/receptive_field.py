"""Measures the effective receptive fields of networks, with and without the pyramid.

    python benchmarks/receptive_field.py --picture fields.png
    python benchmarks/receptive_field.py --depths --models runs/lite0/last.keras \
        --images CamVid/val/images

Random networks of the given depths see uniform noise; trained ones (--models: files, presets or
folders of trainings) the first images of a folder, or noise without one. The radius holds 95 % of
the gradient of the logit at the center. "Cut" is the same network with the gradient cut in the
pyramid, as in a dilated FCN; its theoretical field is a square of that side.
"""

import argparse
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_psp
from keras_psp.data.images import read_image
from keras_psp.evaluation import receptive_field, receptive_field_diagram
from keras_psp.weights.opening import open_model


def networks(args):
    """Yields the name, the network and its images, (n, height, width, 3)."""
    sizes = (args.count, args.size, args.size, 3)
    noise = np.random.default_rng(args.seed).uniform(0, 255, sizes).astype("float32")
    for depth in args.depths:
        keras.utils.set_random_seed(args.seed)
        backbone = f"resnet{depth}"
        yield f"ResNet-{depth}, random", keras_psp.PSPNet(backbone=backbone, aux_weight=0), noise
    for name in args.models:
        images = noise
        if args.images:
            paths = sorted(path for path in args.images.iterdir() if path.is_file())
            images = np.stack([read_image(path) for path in paths[: args.count]])
        yield f"{name}, trained", open_model(name), images


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="*", default=[18, 50, 101])
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--images", type=Path, help="folder of images of one size")
    parser.add_argument("--size", type=int, default=473, help="side of the noise")
    parser.add_argument("--count", type=int, default=2, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="also draw the fields")
    args = parser.parse_args()

    rows, panels = [], []
    for name, model, images in networks(args):
        start = time.perf_counter()
        whole, cut = (receptive_field(model, images, pyramid=pyramid) for pyramid in (True, False))
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        size = cut.theoretical_size
        rows.append(
            f"| {name} | {images.shape[2]}x{images.shape[1]} | {size or 'whole image'} "
            f"| {cut.radius():.0f} | {whole.radius():.0f} "
            f"| {100 * whole.share_within(cut.radius()):.0f} % |"
        )
        panels += [(f"{name}, cut", cut), (name, whole)]
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, {args.count} images")
    print(
        "| network | images | theoretical side, cut | radius of 95 %, cut | with pyramid "
        "| gradient with pyramid in the cut field's radius |"
    )
    print("|" + "---|" * 6)
    print("\n".join(rows))
    if args.picture:
        receptive_field_diagram(panels, path=args.picture, columns=2)


if __name__ == "__main__":
    main()
