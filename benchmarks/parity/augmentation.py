"""Compares the authors' training transforms with ours for the same random draws.

    python benchmarks/parity/augmentation.py --semseg semseg [--data FOLDER]

semseg is a checkout of hszhao/semseg; its util/transform.py needs torch and
opencv-python. Each image goes through scale, rotation, blur, mirror and crop (473x473) as
tool/train.py composes them, and through those of keras_psp.data. Without --data the images
are generated scenes. Theirs interpolate a rotated image twice, ours once.
"""

import argparse
import collections
import collections.abc
import random
import sys

import numpy as np

from keras_psp import data
from keras_psp.data.augmentation import augmented
from keras_psp.imagenet import IMAGENET_MEAN

CROP = 473
BOUNDS = {"labels": 0.005, "images": 2 / 255}


class Draws:
    """Replaces the module `random` and returns given values."""

    def __init__(self):
        self.values = []

    def random(self):
        return self.values.pop(0)

    def randint(self, low, high):
        return low + min(int(np.float32(high - low + 1) * np.float32(self.values.pop(0))), high)


def theirs(transform, image, mask, draw, draws):
    """Image and mask after semseg's transforms, with our draws."""
    scale, mirror, row, column, rotate, angle, blur = (float(d) for d in draw[:7])
    mean = list(IMAGENET_MEAN)
    steps = transform.Compose(
        [
            transform.RandScale([0.5, 2.0]),
            transform.RandRotate([-10, 10], padding=mean, ignore_label=255),
            transform.RandomGaussianBlur(),
            transform.RandomHorizontalFlip(),
            transform.Crop([CROP, CROP], crop_type="rand", padding=mean, ignore_label=255),
        ]
    )
    turned = [angle] if rotate < 0.5 else []
    draws.values = [scale, rotate, *turned, blur, mirror, row, column]
    return steps(image.astype("float32"), mask)


def ours(image, mask, draw):
    """Returns image and mask after our transforms."""
    image, mask = augmented(
        image,
        mask,
        draw,
        crop=(CROP, CROP),
        scale=(0.5, 2.0),
        mirror=True,
        angles=(-10.0, 10.0),
        blur=True,
        fill=np.array(IMAGENET_MEAN, "float32"),
        ignore_class=255,
    )
    return image.numpy(), mask.numpy()


def examples(options):
    """Yields images and masks of a folder's training split, or of generated scenes."""
    if options.data:
        source = data.ImageFolder(options.data)
        split = source.splits[0]
    else:
        source = data.GeneratedScenes(image_size=(320, 384), counts={"train": options.count})
        split = "train"
    for image, mask in source.examples(split).take(options.count):
        yield np.asarray(image), np.asarray(mask)


def main():
    """Prints the table; fails if a bound is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", required=True)
    parser.add_argument("--data")
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args()
    collections.Iterable = collections.abc.Iterable  # removed in Python 3.10
    sys.path.insert(0, options.semseg)
    from util import transform

    draws = Draws()
    for name in ("random", "randint"):
        setattr(random, name, getattr(draws, name))
    generator = np.random.default_rng(0)
    rows = collections.defaultdict(list)
    for image, mask in examples(options):
        draw = generator.random(8, dtype="float32")
        pair = theirs(transform, image, mask, draw, draws), ours(image, mask, draw)
        (their_image, their_mask), (our_image, our_mask) = pair
        kind = "rotated" if draw[4] < 0.5 else "upright"
        kind += ", blurred" if draw[6] < 0.5 else ""
        boundary = edges(their_mask)
        different = their_mask != our_mask
        rows[kind].append(
            (
                different.mean(),
                (different & ~boundary).mean(),
                np.abs(their_image - our_image).mean() / 255,
            )
        )
    print("| transforms | images | labels differ | not at an edge | images differ, of 255 |")
    print("|---|---|---|---|---|")
    everything = [row for kind in rows.values() for row in kind]
    for kind, values in [*sorted(rows.items()), ("all", everything)]:
        labels, inner, images = np.mean(values, axis=0)
        print(f"| {kind} | {len(values)} | {labels:.2%} | {inner:.3%} | {255 * images:.2f} |")
    labels, _, images = np.mean(everything, axis=0)
    print(f"\nBounds: labels {BOUNDS['labels']:.1%}, images {255 * BOUNDS['images']:.0f} of 255.")
    return bool(labels > BOUNDS["labels"] or images > BOUNDS["images"])


def edges(mask):
    """Returns the pixels that have another label among their eight neighbors."""
    padded = np.pad(mask, 1, mode="edge")
    height, width = mask.shape
    return np.any(
        [padded[i : i + height, j : j + width] != mask for i in range(3) for j in range(3)],
        axis=0,
    )


if __name__ == "__main__":
    raise SystemExit(main())
