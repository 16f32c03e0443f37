"""Shared by the peers' scripts: arguments, images, random statistics, files."""

import argparse
import json
from pathlib import Path

import numpy as np


def arguments(description, variants, *, sizes=("473x473", "241x329"), num_classes=150):
    """Parses the command line of a peer; with `--list`, prints the variants and exits."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repository", type=Path, help="a checkout of the other project")
    parser.add_argument("--variant", choices=variants)
    parser.add_argument("--output", type=Path, help="folder for the checkpoint and reference.npz")
    parser.add_argument("--sizes", nargs="+", default=list(sizes), help="HEIGHTxWIDTH ...")
    parser.add_argument("--num-classes", type=int, default=num_classes)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--legacy", action="store_true", help="also write torch's older file format"
    )
    parser.add_argument("--list", action="store_true", help="print the variants")
    options = parser.parse_args()
    if options.list:
        print("\n".join(variants))
        raise SystemExit
    if options.variant is None or options.output is None:
        parser.error("--variant and --output are needed")
    options.output.mkdir(parents=True, exist_ok=True)
    options.sizes = [tuple(int(n) for n in size.split("x")) for size in options.sizes]
    return options


def image(height, width, seed):
    """Returns an image (1, height, width, 3), uint8: smooth waves with noise."""
    random = np.random.default_rng([seed, height, width])
    rows, columns = np.mgrid[:height, :width][:, :, :, None] / 40.0
    angles, phases = random.uniform(0, 2 * np.pi, (2, 3))
    waves = np.sin(rows * np.cos(angles) + columns * np.sin(angles) + phases)
    pixels = 128 + 70 * waves + random.normal(0, 25, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)[None]


def randomize_torch(module, seed):
    """Sets random statistics and parameters in every BatchNorm and convolution."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    def normal(tensor, deviation):
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)

    with torch.no_grad():
        for layer in module.modules():
            if isinstance(getattr(layer, "running_var", None), torch.Tensor):
                uniform(layer.running_var, 0.5, 1.5)
                normal(layer.running_mean, 0.1)
                uniform(layer.weight, 0.5, 1.5)
                normal(layer.bias, 0.1)
            elif isinstance(layer, torch.nn.Conv2d):
                # He's deviation, so that feature maps keep their variance through the network.
                fan_in = layer.weight[0].numel()
                normal(layer.weight, (2 / fan_in) ** 0.5)
                if layer.bias is not None:
                    normal(layer.bias, 0.1)


def calm_residuals(module):
    """Scales down the last gamma of residual branches, so that their sum doesn't explode."""
    import torch

    with torch.no_grad():
        for layer in module.modules():
            if hasattr(layer, "downsample"):  # a residual block
                getattr(layer, "bn3", layer.bn2).weight.mul_(0.2)


def save_torch(options, file, content):
    """Calls torch.save; with `--legacy`, in both formats."""
    import torch

    torch.save(content, options.output / file)
    if options.legacy:
        save_legacy(options, file, content)


def save_legacy(options, file, content):
    """Saves in the format before torch 1.6, to a subfolder."""
    import torch

    folder = options.output / "legacy"
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / file, _use_new_zipfile_serialization=False)


def import_torchvision():
    """Imports torchvision, also if its wheel was built for CUDA and torch for the CPU.

    Its operators don't load then; the networks here don't use them.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", boxes)
        import torchvision
    return torchvision


def write(options, *, family, files, logits, what):
    """Writes reference.npz and facts.json; `logits(pixels)` returns (1, H, W, classes)."""
    arrays = {}
    for height, width in options.sizes:
        pixels = image(height, width, options.seed)
        scores = np.asarray(logits(pixels), dtype="float32")
        assert scores.shape == (1, height, width, options.num_classes), scores.shape
        arrays[f"image_{height}x{width}"] = pixels
        arrays[f"logits_{height}x{width}"] = scores
    np.savez(options.output / "reference.npz", **arrays)
    facts = {
        "family": family,
        "variant": options.variant,
        "files": files,
        "num_classes": options.num_classes,
        "what": what,
    }
    (options.output / "facts.json").write_text(json.dumps(facts, indent=1))
