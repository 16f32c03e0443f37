"""Compares ten training steps of the authors' PSPNet-50 with ours, from the same weights.

    python benchmarks/parity/training.py --semseg semseg

The loss with the auxiliary head, momentum, weight decay added to the gradient, the poly policy
and the head's tenfold learning rate are those of semseg/tool/train.py, on the same batches.
In float64, without dropout, whose draws can't be shared. Needs torch.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_psp
from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD
from keras_psp.layers.resampling import resize_bilinear
from keras_psp.weights import convert

STEPS, CLASSES, SIZE, BATCH = 10, 21, 65, 4
BASE, POWER, MOMENTUM, DECAY = 0.01, 0.9, 0.9, 1e-4
BOUND = 1e-4  # relative, of a variable's largest value


def reference(repository, folder, images, masks):
    """Returns the losses of the authors' steps; saves the weights before and after them."""
    import torch

    sys.path.insert(0, str(repository))
    from model.pspnet import PSPNet
    from util.util import poly_learning_rate

    torch.manual_seed(0)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    network = PSPNet(
        layers=50, classes=CLASSES, dropout=0.0, criterion=criterion, pretrained=False
    ).double()
    for name, module in network.named_modules():
        # Random residual branches at full strength make training chaotic: rounding errors grow
        # a thousandfold per step. In a trained network they don't.
        if name.startswith("layer") and name.endswith("bn3"):
            torch.nn.init.constant_(module.weight, 0.1)
    torch.save(network.state_dict(), folder / "before.pth")
    backbone = [network.layer0, network.layer1, network.layer2, network.layer3, network.layer4]
    head = [network.ppm, network.cls, network.aux]
    groups = [{"params": part.parameters(), "lr": BASE} for part in backbone]
    groups += [{"params": part.parameters(), "lr": 10 * BASE} for part in head]
    optimizer = torch.optim.SGD(groups, lr=BASE, momentum=MOMENTUM, weight_decay=DECAY)
    normalized = (images - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    network.train()
    losses = []
    for step in range(STEPS):
        rate = poly_learning_rate(BASE, step, STEPS, power=POWER)
        for index, group in enumerate(optimizer.param_groups):
            group["lr"] = rate if index < len(backbone) else 10 * rate
        x = torch.from_numpy(normalized[step].transpose(0, 3, 1, 2).copy())
        _, main, auxiliary = network(x, torch.from_numpy(masks[step].astype("int64")))
        loss = main + 0.4 * auxiliary
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.save(network.state_dict(), folder / "after.pth")
    return losses


def main():
    """Prints the table; fails if the bound is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", required=True, type=Path)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    # Smooth blotches that differ between images: averaged over the pyramid's largest bin,
    # plain noise would be constant, and BatchNorm would divide by almost zero.
    coarse = random.uniform(0, 255, (STEPS * BATCH, 4, 4, 3))
    images = resize_bilinear(coarse, (SIZE, SIZE), align_corners=True)
    images = keras.ops.convert_to_numpy(images).reshape(STEPS, BATCH, SIZE, SIZE, 3)
    masks = random.integers(0, CLASSES, (STEPS, BATCH, SIZE, SIZE))
    masks[random.random(masks.shape) < 0.1] = 255
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = reference(options.semseg, folder, images, masks)
        keras.backend.set_floatx("float64")
        choices = {"dtype": "float64", "dropout": 0.0, "verbose": False}
        model, after = (convert(folder / f"{when}.pth", **choices) for when in ("before", "after"))
    start = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    schedule = keras_psp.PolyLearningRate(BASE, STEPS, power=POWER)
    model.compile(keras_psp.SGD(schedule, momentum=MOMENTUM, weight_decay=DECAY))
    losses = [float(model.train_on_batch(*batch)) for batch in zip(images, masks, strict=True)]
    print("| step | loss, theirs | loss, ours |")
    print("|---|---|---|")
    for step, (theirs, ours) in enumerate(zip(expected, losses, strict=True), 1):
        print(f"| {step} | {theirs:.8f} | {ours:.8f} |")
    worst, worst_of_change = 0.0, 0.0
    for variable, target, old in zip(
        model.trainable_variables, after.trainable_variables, start, strict=True
    ):
        actual, wanted = (keras.ops.convert_to_numpy(v) for v in (variable, target))
        error = np.abs(actual - wanted).max()
        worst = max(worst, error / max(np.abs(wanted).max(), 1e-12))
        worst_of_change = max(worst_of_change, error / max(np.abs(wanted - old).max(), 1e-12))
    print(
        f"\nAfter {STEPS} steps, {len(start)} variables: largest difference {worst:.1e} of a "
        f"variable's largest value (bound {BOUND:.0e}), {worst_of_change:.1e} of its change."
    )
    return worst > BOUND


if __name__ == "__main__":
    raise SystemExit(main())
