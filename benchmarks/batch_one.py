"""Compares mean IoU in `fit` and in `evaluate` where BatchNorm sees one image at a time.

    python benchmarks/batch_one.py > batch_one.md

A PSPNet-18 takes 200 steps from random weights on 8 images, the same in both, of a disk on a
background, both of random colors: the statistics of one image are far from those of another.
"Keras" are the same trainings with `keras.layers.BatchNormalization`; with several images per pass,
both layers are equal. Takes three minutes on two CPU cores. Exit status 1 if `evaluate` is more
than 10 points below `fit` where keras_psp's layer sees one image at a time.
"""

import argparse
import sys

import keras
import numpy as np
from measure import environment, progress

import keras_psp
from keras_psp.layers import convolution, normalization

BOUND = 0.1
STEPS, IMAGES, SIDE = 200, 8, 65
# BatchNorm, batch size, parts of a batch; the bound is on those of one image.
TRAININGS = [
    ("keras_psp", 4, 1),
    ("Keras", 1, 1),
    ("Keras", 2, 2),
    ("keras_psp", 1, 1),
    ("keras_psp", 2, 2),
]
LAYERS = {"Keras": keras.layers.BatchNormalization, "keras_psp": normalization.BatchNormalization}


def disks(seed):
    """Images (8, side, side, 3) uint8 and their masks: 1 in the disk, else 0."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images, masks = [], []
    for _ in range(IMAGES):
        row, column, radius = SIDE * rng.uniform((0.25, 0.25, 0.12), (0.75, 0.75, 0.25))
        inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
        disk, background = rng.integers(0, 256, (2, 3))
        image = np.where(inside[..., None], disk, background) + rng.normal(0, 20, (SIDE, SIDE, 3))
        images.append(np.clip(image, 0, 255).astype("uint8"))
        masks.append(inside.astype("uint8"))
    return np.stack(images), np.stack(masks)


def trained(kind, batch_size, parts, seed):
    """Mean IoU in the last epoch of `fit`, in `evaluate`, and the one-bin level's variances."""
    keras.utils.set_random_seed(seed)
    images, masks = disks(seed)
    convolution.BatchNormalization = LAYERS[kind]
    backbone = keras_psp.DilatedResNet(18, stem_filters=(16,), name="backbone")
    model = keras_psp.PSPNet(2, backbone=backbone, fusion_filters=64)
    convolution.BatchNormalization = LAYERS["keras_psp"]
    schedule = keras_psp.PolyLearningRate(0.01, STEPS)
    metrics = [keras_psp.MeanIoU(2)]
    model.compile(keras_psp.SGD(schedule), metrics=metrics, gradient_accumulation_steps=parts)
    options = {"batch_size": batch_size, "verbose": 0}
    history = model.fit(images, masks, epochs=STEPS * batch_size // IMAGES, **options).history
    evaluated = model.evaluate(images, masks, return_dict=True, **options)["mean_iou"]
    level = model.get_layer("pyramid_pooling").reductions[0]
    variance = np.median(keras.ops.convert_to_numpy(level.norm.moving_variance))
    return history["mean_iou"][-1], evaluated, variance


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"# One image per BatchNorm pass\n\n    {' '.join(['python', *sys.argv])}\n")
    about = environment([keras.backend.backend()])
    print(f"{STEPS} steps, {IMAGES} images of {SIDE}x{SIDE}. {about}.\n")
    print("| BatchNorm | batch size | parts | fit | evaluate | variance of the one-bin level |")
    print("|---|---|---|---|---|---|")
    missed = False
    for kind, batch_size, parts in TRAININGS:
        progress(f"{kind}, batch size {batch_size}, {parts} parts")
        fitted, evaluated, variance = trained(kind, batch_size, parts, args.seed)
        row = [kind, batch_size, parts, f"{fitted:.3f}", f"{evaluated:.3f}", f"{variance:.1e}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        one_image = batch_size == parts and kind == "keras_psp"
        missed |= one_image and evaluated < fitted - BOUND
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
