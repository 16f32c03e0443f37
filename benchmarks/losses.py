"""Compares the losses with those of other projects, or the networks that they train.

    python benchmarks/losses.py --smp segmentation_models.pytorch > losses.md
    python benchmarks/losses.py --train scenes_losses > losses_training.md

The first needs a checkout of github.com/qubvel-org/segmentation_models.pytorch, of which only the
files of losses are imported, PyTorch and JAX. Its losses, and Keras' own, get logits that are
upsampled in float64; ours get those at stride 8, on three backends. Exit status 1 if a value or a
gradient differs by more than 1e-6 of the largest. On PyTorch, Keras makes float32 of float64
(keras/src/backend/common/dtypes.py), which is off here unless `--keras-promotion` is given. The
second trains the recipe "scenes" with each loss and one seed in the folder, and resumes what is
there. See loss_memory.py for memory.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest.mock
from pathlib import Path

import keras
import numpy as np
from keras import ops
from measure import compiled, environment, progress

import keras_psp
from keras_psp import losses
from keras_psp.layers.resampling import resize_bilinear

BOUND = 1e-6
BACKENDS = ("tensorflow", "jax", "torch")
CLASSES, WEIGHTS = 5, [0.5, 2.0, 1.0, 0.25, 4.0]
TRAINED = ["crossentropy", "boundary", "focal", "dice", "tversky", "lovasz"]
TRAINED += ["dice+crossentropy", "lovasz+crossentropy"]
# Name of a case: our loss, and its counterpart in segmentation_models.pytorch or in Keras.
SMP = {
    "dice": (losses.UpsampledDice(), "DiceLoss", {}),
    "dice, smooth": (losses.UpsampledDice(smooth=1.0), "DiceLoss", {"smooth": 1.0}),
    "dice, class weights": (
        losses.UpsampledDice(class_weights=WEIGHTS),
        "DiceLoss",
        {"class_weights": WEIGHTS},
    ),
    "tversky": (losses.UpsampledTversky(), "TverskyLoss", {"alpha": 0.3, "beta": 0.7}),
    "tversky, gamma": (
        losses.UpsampledTversky(gamma=0.75),
        "TverskyLoss",
        {"alpha": 0.3, "beta": 0.7, "gamma": 0.75},
    ),
    "focal, sigmoid": (losses.UpsampledFocalCrossentropy(activation="sigmoid"), "FocalLoss", {}),
    "focal, sigmoid, alpha, class weights": (
        losses.UpsampledFocalCrossentropy(
            activation="sigmoid", alpha=0.25, gamma=1.5, class_weights=WEIGHTS
        ),
        "FocalLoss",
        {"alpha": 0.25, "gamma": 1.5, "class_weights": WEIGHTS},
    ),
    "focal, softmax": (losses.UpsampledFocalCrossentropy(), "softmax_focal", {}),
    "lovasz": (losses.UpsampledLovasz(), "LovaszLoss", {}),
    "lovasz, per image": (
        losses.UpsampledLovasz(per_image=True),
        "LovaszLoss",
        {"per_image": True},
    ),
    "label smoothing": (losses.UpsampledCrossentropy(label_smoothing=0.1), "SoftCE", {}),
}
KERAS = {
    "crossentropy": (losses.UpsampledCrossentropy(), "CategoricalCrossentropy", {}),
    "label smoothing": (
        losses.UpsampledCrossentropy(label_smoothing=0.1),
        "CategoricalCrossentropy",
        {"label_smoothing": 0.1},
    ),
    "focal": (
        losses.UpsampledFocalCrossentropy(),
        "CategoricalFocalCrossentropy",
        {"alpha": 1.0, "gamma": 2.0},
    ),
    "dice": (losses.UpsampledDice(), "Dice", {"axis": (0, 1, 2)}),
    # Keras' alpha weighs what the paper and we call false negatives.
    "tversky": (
        losses.UpsampledTversky(),
        "Tversky",
        {"axis": (0, 1, 2), "alpha": 0.7, "beta": 0.3},
    ),
}


def example(ignored):
    """Logits (3, 12, 15, classes) and masks (3, 89, 113) of a few regions each."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((3, 12, 15, CLASSES))
    coarse = rng.integers(0, CLASSES, (3, 9, 12))
    masks = coarse.repeat(10, axis=1).repeat(10, axis=2)[:, :89, :113]
    if ignored:
        masks[0, :20] = 255
        masks[1][masks[1] == 3] = 0  # one class doesn't occur in each image
    return logits, masks


def smp_results(folder):
    """Value and gradient of each case of segmentation_models.pytorch."""
    import torch

    place = folder / "segmentation_models_pytorch/losses"
    spec = importlib.util.spec_from_file_location(
        "smp_losses", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    smp = sys.modules["smp_losses"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(smp)
    logits, masks = example(ignored=True)
    masks = torch.tensor(masks)
    valid = masks != 255

    def softmax_focal(scores):
        scores = scores.permute(0, 2, 3, 1)[valid]
        return smp._functional.softmax_focal_loss_with_logits(scores, masks[valid])

    def smoothed(scores):
        loss = smp.SoftCrossEntropyLoss("sum", smooth_factor=0.1, ignore_index=255)
        return loss(scores, masks) / valid.sum()  # its mean would divide by ignored pixels too

    for case, (_, name, options) in SMP.items():
        given = torch.tensor(logits, requires_grad=True)
        scores = torch.nn.functional.interpolate(
            given.permute(0, 3, 1, 2), masks.shape[1:], mode="bilinear", align_corners=True
        )
        if name == "softmax_focal":
            value = softmax_focal(scores)
        elif name == "SoftCE":
            value = smoothed(scores)
        else:
            loss = getattr(smp, name)("multiclass", ignore_index=255, **options)
            # Its Lovász loss converts to float32 on the way, and then fails for float64.
            with unittest.mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
                value = loss(scores, masks)
        value.backward()
        yield f"smp {case}", (value.item(), given.grad.numpy())


def promote_float64():
    """Lets Keras' operations on PyTorch return float64 if an argument is float64."""
    from keras.src.backend.common import dtypes

    original = dtypes.result_type

    def result_type(*given):
        names = [keras.backend.standardize_dtype(dtype) for dtype in given if dtype is not None]
        return "float64" if "float64" in names else original(*given)

    dtypes.result_type = result_type


def own_results(keras_promotion):
    """Value and gradient of each case of ours and of Keras, in float64."""
    keras.config.set_floatx("float64")
    if keras.backend.backend() == "torch" and not keras_promotion:
        promote_float64()
    backend = keras.backend.backend()
    mode = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}[backend]

    def result(function, logits):
        given = keras.Variable(logits, dtype="float64")
        call = compiled(lambda: function(ops.convert_to_tensor(given)), [], [given], mode=mode)
        value, (gradient,) = keras.tree.map_structure(ops.convert_to_numpy, call())
        return value, gradient

    logits, masks = example(ignored=True)
    for case, (loss, *_) in SMP.items():
        yield f"ours smp {case}", result(lambda x, loss=loss: loss(masks, x), logits)
    logits, masks = example(ignored=False)
    target = np.eye(CLASSES)[masks]
    for case, (loss, name, options) in KERAS.items():
        probabilities = name in ("Dice", "Tversky")
        stock = getattr(keras.losses, name)(
            **options, **({} if probabilities else {"from_logits": True})
        )

        def plain(x, stock=stock, probabilities=probabilities):
            x = resize_bilinear(x, masks.shape[1:], align_corners=True)
            return stock(target, ops.softmax(x) if probabilities else x)

        yield f"ours keras {case}", result(lambda x, loss=loss: loss(masks, x), logits)
        yield f"keras {case}", result(plain, logits)


def worker(args):
    results = smp_results(args.smp) if args.worker == "smp" else own_results(args.keras_promotion)
    flat = {}
    for case, (value, gradient) in results:
        flat[f"{case}/value"], flat[f"{case}/gradient"] = value, gradient
    np.savez(args.results, **flat)


def compare(args):
    """Prints the differences; returns whether one is too large."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("smp", *BACKENDS):
            progress(f"computing {name}")
            path = Path(folder) / f"{name}.npz"
            backend = "torch" if name == "smp" else name
            subprocess.run(
                [sys.executable, *sys.argv, "--worker", name, "--results", path],
                env={**os.environ, "KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"},
                check=True,
            )
            with np.load(path) as file:
                results[name] = dict(file)
    missed = False
    print("| backend | compared with | loss | value | difference | of the largest gradient |")
    print("|---|---|---|---|---|---|")
    for backend in BACKENDS:
        own = results[backend]
        for key in own:
            case, what = key.removeprefix("ours ").rsplit("/", 1)
            if not key.startswith("ours ") or what != "value":
                continue
            theirs = results["smp"] if case.startswith("smp") else own
            value, gradient = theirs[f"{case}/value"], theirs[f"{case}/gradient"]
            difference = abs(own[key] - value) / abs(value)
            slope = np.abs(own[f"ours {case}/gradient"] - gradient).max() / np.abs(gradient).max()
            missed |= not max(difference, slope) <= BOUND
            project, case = case.split(" ", 1)
            cells = (backend, project, case, f"{value:.7g}", f"{difference:.1e}", f"{slope:.1e}")
            print(f"| {' | '.join(cells)} |", flush=True)
    return missed


def train(args):
    """Trains the recipe with each loss and prints the mean IoU on the validation split."""
    print("| loss | best mean IoU | last mean IoU |\n|---|---|---|", flush=True)
    for loss in args.losses:
        progress(loss)
        folder = args.train / loss.replace("*", "x")
        fields = {} if args.epochs is None else {"epochs": args.epochs}
        run = keras_psp.train("scenes", output=folder, loss=loss, progress=False, **fields)
        lines = (folder / "log.csv").read_text().splitlines()
        last = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
        cells = (f"`{loss}`", f"{run.best_mean_iou:.4f}", f"{float(last['val_mean_iou']):.4f}")
        print(f"| {' | '.join(cells)} |", flush=True)
        keras.backend.clear_session()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smp", type=Path, help="checkout of segmentation_models.pytorch")
    parser.add_argument("--train", type=Path, metavar="FOLDER", help="of the runs")
    parser.add_argument("--losses", nargs="+", default=TRAINED, help="to train with")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--keras-promotion", action="store_true", help="on PyTorch, see above")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    if not (args.smp or args.train):
        parser.error("give --smp or --train")
    print(f"{environment(BACKENDS)}.\n", flush=True)
    if args.train:
        train(args)
    return sys.exit(args.smp is not None and compare(args))


if __name__ == "__main__":
    main()
