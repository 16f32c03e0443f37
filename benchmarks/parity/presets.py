"""Checks that every preset builds, loads a fitting checkpoint, and refuses a wrong one.

    python benchmarks/parity/presets.py

The checkpoints are generated from mmsegmentation's tensor names, independently of the
package's tables (tests/support/checkpoints.py), written in torch's format, opened from the
cache like a fetched file, and used for a prediction. Then one tensor is removed, renamed
and reshaped in turn; the error must name it.
"""

import argparse
import dataclasses
import hashlib
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import keras
import numpy as np
from support import checkpoints, writers

import keras_psp
from keras_psp.weights import WeightsFileError, presets, store

KEYS = {
    "missing": "backbone.layer3.1.conv2.weight",
    "renamed": "decode_head.bottleneck.bn.running_mean",
    "reshaped": "backbone.layer4.0.downsample.0.weight",
}


def check(preset, image):
    """Checks one preset and returns its number of parameters."""
    depth = int(preset.backbone.removeprefix("resnet"))
    tensors = checkpoints.mmsegmentation(depth, preset.num_classes, plain=preset.stem == "7x7")
    with tempfile.TemporaryDirectory() as home:
        os.environ["KERAS_HOME"] = home
        store.folder().mkdir()
        draft = store.folder() / "draft"
        writers.write_torch(draft, {"meta": {}, "state_dict": tensors})
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()[:8]
        url = preset.url.replace(store.digest(preset.url), digest)
        draft.rename(store.folder() / Path(url).name)
        changed = {**presets.all_presets(), preset.name: dataclasses.replace(preset, url=url)}
        presets.all_presets = lambda: changed
        model = keras_psp.PSPNet.from_preset(preset.name)
    classes = model.predict_classes(image, verbose=0)
    assert classes.shape == image.shape[:3] and len(model.class_names) == preset.num_classes
    refused = 0
    for kind, key in KEYS.items():
        wrong = dict(tensors)
        value = wrong.pop(key)
        if kind == "renamed":
            wrong[key + "_"] = value
        elif kind == "reshaped":
            wrong[key] = value[:-1]
        try:
            preset.family.load(model, wrong)
        except WeightsFileError as error:
            refused += key in str(error)
    assert refused == len(KEYS), f"{preset.name}: {refused} of {len(KEYS)} refused by name"
    return model.count_params()


def main():
    """Prints one row per preset."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    image = np.random.default_rng(0).integers(0, 256, (1, 193, 225, 3)).astype("float32")
    # The bundled preset has no checkpoint.
    rows = [preset for preset in keras_psp.list_presets() if preset.url]
    for number, preset in enumerate(rows, 1):
        print(f"{number}/{len(rows)} {preset.name}", file=sys.stderr)
        parameters = check(preset, image)
        print(
            f"{preset.name}: {parameters / 1e6:.1f} M parameters, loads, predicts, refuses 3 of 3"
        )
        keras.backend.clear_session()
    print(f"\n{len(rows)} presets")


if __name__ == "__main__":
    main()
