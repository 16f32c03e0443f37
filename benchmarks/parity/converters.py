"""Compares each family's own network with its conversion.

A peer's script (benchmarks/parity/peers/) runs the other project's code with random
weights and statistics, and writes a checkpoint, images and logits to a folder:

    python benchmarks/parity/peers/semseg.py --repository semseg --variant 50 --output out/semseg-50
    python benchmarks/parity/converters.py out/*

converts each one and prints the largest difference of the logits, relative to their range.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import keras
import numpy as np

from keras_psp import DilatedResNet, PSPNet
from keras_psp.weights import convert

BOUND = 1e-4


def compare(folder):
    """Facts about the network, and the error per size over all forms of the file."""
    facts = json.loads((folder / "facts.json").read_text())
    files = [folder / name for name in facts["files"] if not name.endswith((".json", ".md"))]
    # An encoder's and a decoder's file are one network; other files contain the same one.
    networks = [files] if files[0].name.startswith("encoder") else [[file] for file in files]
    reference = np.load(folder / "reference.npz")
    if facts["family"] == "torchvision":
        return facts, backbone_errors(files[0], reference)
    errors = {}
    for network in networks:
        model = convert(network)
        for key in sorted(reference.files):
            if key.startswith("logits_"):
                size = key.removeprefix("logits_")
                expected = reference[key]
                logits = model.predict(reference[f"image_{size}"], verbose=0)
                error = float(np.abs(logits - expected).max() / np.ptp(expected))
                errors[size] = max(error, errors.get(size, 0))
    return facts, errors


def backbone_errors(file, reference):
    """Errors of both feature maps of an ImageNet ResNet without dilation."""
    depth = int(re.search(r"resnet(\d+)", file.name)[1])
    backbone = DilatedResNet(depth, stem_filters=(64,), output_stride=32)
    model = PSPNet(2, backbone=backbone, weights=file)
    errors = {}
    for key in sorted(reference.files):
        kind, size = key.split("_")
        if kind == "image":
            continue
        image = model.get_layer("normalization")(reference[f"image_{size}"])
        auxiliary, features = model.backbone(image)
        actual = features if kind == "features" else auxiliary
        error = np.abs(keras.ops.convert_to_numpy(actual) - reference[key]).max()
        errors[f"{kind} {size}"] = float(error / np.ptp(reference[key]))
    return errors


def main():
    """Prints the table; fails if an error exceeds the bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    rows = []
    for folder in sorted(options.folders):
        if not (folder / "facts.json").exists():
            continue
        print(folder, file=sys.stderr)
        rows.append(compare(folder))
        keras.backend.clear_session()
    print("| family | variant | largest error, of the logits' range |")
    print("|---|---|---|")
    for facts, errors in rows:
        shown = ", ".join(f"{size}: {error:.1e}" for size, error in errors.items())
        print(f"| {facts['family']} | {facts['variant']} | {shown} |")
    worst = max(error for _, errors in rows for error in errors.values())
    print(f"\nWorst: {worst:.1e}, bound {BOUND:.0e}.")
    return worst > BOUND


if __name__ == "__main__":
    raise SystemExit(main())
