"""Compares PSPNet-50 with the authors' PyTorch code: logits, training loss and gradients.

    git clone https://github.com/hszhao/semseg
    python benchmarks/parity_semseg.py --semseg semseg

Both networks get the same random weights, random BatchNorm statistics and images. Needs torch. Exit
status 1 if a bound is missed.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")  # for the float64 gradients

import keras
import numpy as np

import keras_psp
from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD
from keras_psp.layers.resampling import resize_bilinear

SIZES = ((473, 473), (241, 329))
CLASSES = 150


def randomize(network, seed):
    """Sets random weights of a realistic scale and random BatchNorm statistics."""
    import torch

    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    # Otherwise the residual sum grows so much in 16 blocks that float32 loses its precision.
    for name, module in network.named_modules():
        if name.endswith("bn3") and name.startswith("layer"):
            module.weight.data *= 0.1


def smooth_images(rng, count, size):
    """Smooth images, because white noise is pooled to the same value everywhere."""
    coarse = rng.uniform(0, 255, (count, 9, 9, 3)).astype("float32")
    return keras.ops.convert_to_numpy(resize_bilinear(coarse, size, align_corners=True))


def conv(target, tensor):
    target.assign(tensor.detach().numpy().transpose(2, 3, 1, 0))


def norm(layer, module):
    layer.gamma.assign(module.weight.detach().numpy())
    layer.beta.assign(module.bias.detach().numpy())
    layer.moving_mean.assign(module.running_mean.numpy())
    layer.moving_variance.assign(module.running_var.numpy())


def copy_weights(theirs, ours):
    """Copies the authors' modules to our layers in the order of definition."""

    def conv_norm(layer, their_conv, their_norm):
        conv(layer.conv.kernel, their_conv.weight)
        norm(layer.norm, their_norm)

    backbone = ours.backbone
    for i, layer in enumerate(backbone.stem):
        conv_norm(layer, theirs.layer0[3 * i], theirs.layer0[3 * i + 1])
    for i, blocks in enumerate(backbone.stages):
        for block, their_block in zip(blocks, getattr(theirs, f"layer{i + 1}"), strict=True):
            for j, layer in enumerate(block.convs):
                name = j + 1
                conv_norm(
                    layer, getattr(their_block, f"conv{name}"), getattr(their_block, f"bn{name}")
                )
            if block.shortcut is not None:
                conv_norm(block.shortcut, *their_block.downsample)
    pyramid = ours.get_layer("pyramid_pooling")
    for layer, level in zip(pyramid.reductions, theirs.ppm.features, strict=True):
        conv_norm(layer, level[1], level[2])
    conv(pyramid.fusion.kernel, theirs.cls[0].weight)
    norm(pyramid.norm, theirs.cls[1])
    head = ours.get_layer("auxiliary_head")
    conv_norm(head.conv, theirs.aux[0], theirs.aux[1])
    for layer, their_conv in (
        (ours.get_layer("classifier"), theirs.cls[4]),
        (head.classifier, theirs.aux[4]),
    ):
        conv(layer.kernel, their_conv.weight)
        layer.bias.assign(their_conv.bias.detach().numpy())


def gradients(ours, images, masks, variables):
    """Loss and gradients of our training step on the current backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = ours.compute_loss(images, masks, ours(images, training=True))
        return float(loss), [g.numpy() for g in tape.gradient(loss, [v.value for v in variables])]
    if keras.backend.backend() == "torch":
        loss = ours.compute_loss(images, masks, ours(images, training=True))
        loss.backward()
        return loss.item(), [v.value.grad.numpy() for v in variables]
    import jax

    def loss_of(values):
        mapping = [
            (v, values[i] if i is not None else v.value)
            for v, i in (
                (v, next((i for i, w in enumerate(variables) if w is v), None))
                for v in ours.variables
            )
        ]
        with keras.StatelessScope(state_mapping=mapping):
            return ours.compute_loss(images, masks, ours(images, training=True))

    loss, grads = jax.jit(jax.value_and_grad(loss_of))([v.value for v in variables])
    return float(loss), [np.asarray(g) for g in grads]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", type=Path, required=True, help="checkout of hszhao/semseg")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.path.insert(0, str(args.semseg))
    import torch
    from model.pspnet import PSPNet as TheirPSPNet

    theirs = TheirPSPNet(
        layers=50,
        classes=CLASSES,
        zoom_factor=8,
        dropout=0.0,
        pretrained=False,
        criterion=torch.nn.CrossEntropyLoss(ignore_index=255),
    )
    randomize(theirs, args.seed)
    ours = keras_psp.PSPNet(CLASSES, backbone="resnet50", dropout=0.0)
    copy_weights(theirs, ours)

    rng = np.random.default_rng(args.seed)

    def their_input(images):
        normalized = (images - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
        return torch.from_numpy(normalized.transpose(0, 3, 1, 2).copy())

    rows, failed = [], False

    def report(what, error, bound):
        nonlocal failed
        failed |= not error <= bound
        rows.append(f"| {what} | {error:.1e} | {bound:.0e} | {'yes' if error <= bound else 'NO'} |")

    theirs.eval()
    for size in SIZES:
        images = rng.uniform(0, 255, (1, *size, 3)).astype("float32")
        with torch.no_grad():
            expected = theirs(their_input(images).float()).numpy().transpose(0, 2, 3, 1)
        logits = keras.ops.convert_to_numpy(ours(images))
        report(
            f"logits {size[0]}x{size[1]}", np.abs(logits - expected).max() / np.ptp(expected), 1e-4
        )

    # Gradients use float64 on both sides: in float32, a few ReLUs with inputs close to 0 switch
    # by rounding, which alone changes a gradient by about sqrt(1e-6).
    theirs.train()
    size = (137, 161)
    images = smooth_images(rng, 4, size)
    masks = rng.integers(0, CLASSES, (4, *size)).astype("int32")
    masks[:, :20] = 255

    def their_step(network, images):
        network.zero_grad()
        _, main_loss, aux_loss = network(images, torch.from_numpy(masks).long())
        total = main_loss + 0.4 * aux_loss
        total.backward()
        modules = (network.layer0[0], network.layer4[1].conv2, network.cls[0])
        grads = [m.weight.grad.numpy().transpose(2, 3, 1, 0).copy() for m in modules]
        return total.item(), grads

    total, expected = their_step(theirs.double(), their_input(images))
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    ours = keras_psp.PSPNet(CLASSES, backbone="resnet50", dropout=0.0)
    copy_weights(theirs, ours)
    ours.compile()
    fusion = ours.get_layer("pyramid_pooling").fusion.kernel
    stem = ours.backbone.stem[0].conv.kernel
    dilated = ours.backbone.stages[3][1].convs[1].conv.kernel
    loss, actual = gradients(ours, images, masks, [stem, dilated, fusion])
    report("training loss", abs(loss - total) / total, 1e-3)
    # Keras' JAX and PyTorch backends round to float32 in places.
    bound = 1e-3 if keras.backend.backend() == "tensorflow" else 1e-2
    names = ("stem conv1", "stage 5 block 2 conv2", "fusion 3x3")
    for name, gradient, exact in zip(names, actual, expected, strict=True):
        error = np.linalg.norm(gradient - exact) / np.linalg.norm(exact)
        report(f"gradient of {name}", error, bound)

    print(
        f"backend {keras.backend.backend()}, Keras {keras.__version__}, torch {torch.__version__}"
    )
    print("| PSPNet-50, 150 classes | relative error | bound | met |\n|---|---|---|---|")
    print("\n".join(rows))
    sys.exit(failed)


if __name__ == "__main__":
    main()
