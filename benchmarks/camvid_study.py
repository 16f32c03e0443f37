"""Chooses a small network on CamVid's training sequences, then reports it once on the test split.

    python benchmarks/camvid_study.py choose --root CamVid              # what to train with
    python benchmarks/camvid_study.py report --root CamVid --seeds 0 1 2
    python benchmarks/camvid_study.py refine --root CamVid --seeds 0 1 2

CamVid's `val` follows one of the sequences of `train` in the same video, so its figures come out
higher than those of another street. `choose` therefore trains on the frames of two sequences of
`train` and evaluates on those of the third. `report` trains the recipe "camvid_lite0" on `train`
and `val`, as most published figures do, and evaluates the test split, whose 171 of 233 frames are
of a sequence that no other split has. `refine` trains the networks of `report` further on the same
images, at output stride 8 and, for comparison, at 16; nothing about it was chosen by results. All
resume interrupted trainings and skip finished ones.
"""

import argparse
import csv
import json
import signal
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from measure import environment, in_a_process, progress

HELD_OUT = "0006R0"
# The recipe before `choose`.
PLAIN = {"image_size": None, "batch_size": 8, "learning_rate": 0.01, "loss": "crossentropy"}
ENLARGED = PLAIN | {"image_size": (540, 720)}
FAST = ENLARGED | {"learning_rate": 0.03}
DICE = {"loss": "dice+crossentropy"}
# What each candidate changes of the recipe.
CANDIDATES = {
    "plain": PLAIN,
    "class weights": PLAIN | {"class_weights": "median_frequency"},
    "enlarged": ENLARGED,
    "enlarged, class weights": ENLARGED | {"class_weights": "median_frequency"},
    "enlarged, no blur": ENLARGED | {"blur": False},
    "enlarged, learning rate 0.03": FAST,
    "enlarged, learning rate 0.03, Dice": FAST | DICE,
    "enlarged, learning rate 0.02, Dice, batch 4": {},
    "enlarged, AdamW": ENLARGED
    | {"optimizer": "adamw", "learning_rate": 3e-4, "weight_decay": 0.05},
    "stride 8": PLAIN | {"output_stride": 8},
}
TASKS = {
    "choose": {name: {"epochs": 15} | changes for name, changes in CANDIDATES.items()},
    "report": {"camvid_lite0": {}},
    "refine": {
        f"output stride {stride}": {"output_stride": stride, "learning_rate": 0.01, "epochs": 10}
        for stride in (8, 16)
    },
}


def by_sequence(root):
    """CamVid's `train`, divided by sequence into "train" and "val"."""
    from keras_psp import data

    source = data.load("camvid", root=root)
    pairs = {"train": [], "val": []}
    for image, label in source.paths("train"):
        pairs["val" if image.name.startswith(HELD_OUT) else "train"].append((image, label))
    lookup = {value: value for value in range(source.num_classes)}
    lookup |= dict.fromkeys((source.num_classes, source.ignore_class), source.ignore_class)  # void
    return data.ImagePairs(pairs, class_names=source.class_names, lookup=lookup)


def figures(source, model, split, path, **views):
    """Evaluates a model and writes its figures to a JSON file."""
    import keras_psp
    from keras_psp.files import written_aside

    output = path.parent / path.stem
    measures = keras_psp.evaluate(source, model, split=split, output=output, **views).measures
    classes = dict(zip(source.class_names, measures.iou.tolist(), strict=True))
    found = {"mean IoU": measures.mean_iou, "pixel accuracy": measures.pixel_accuracy}
    with written_aside(path) as draft:
        draft.write_text(json.dumps(found | {"classes": classes}, indent=1))


def choose(recipe, root, folder):
    """Trains a candidate without the sequence that it is then evaluated on."""
    import keras_psp

    source = by_sequence(root)
    recipe = replace(recipe, validation_epochs=0)
    keras_psp.train(recipe, data=source, output=folder)
    figures(source, folder, "val", folder / "held_out.json")


def report(recipe, root, folder):
    """Trains on `train` and `val` and evaluates the test split, one view and six scales."""
    import keras_psp
    from keras_psp.prediction.protocol import SIX_SCALES

    recipe = replace(recipe, train_split="train+val", validation_epochs=0)
    source = keras_psp.data.load("camvid", root=root)
    keras_psp.train(recipe, data=source, output=folder)
    figures(source, folder, "test", folder / "one_view.json")
    figures(source, folder, "test", folder / "six_scales.json", scales=SIX_SCALES, flip=True)


def minutes(folder):
    """Duration of a training, from its log."""
    with (folder / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    recipe = json.loads((folder / "recipe.json").read_text("utf-8"))
    steps = [int(row["step"]) for row in rows]
    images = [(b - a) * recipe["batch_size"] for a, b in zip([0, *steps], steps, strict=False)]
    rates = [float(row["images_per_second"]) for row in rows]
    return sum(n / rate for n, rate in zip(images, rates, strict=True)) / 60


def table(names, runs, shown):
    """Prints mean and range over seeds of the figures in files."""
    print(f"| | {' | '.join(shown.values())} | minutes |\n|---{'|---' * (len(shown) + 1)}|")
    for name in names:
        cells = []
        for file in shown:
            paths = [folder / f"{file}.json" for folder in runs[name]]
            found = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
            values = [100 * figures["mean IoU"] for figures in found]
            spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f} %{spread}" if values else "")
        if any(cells):
            finished = [folder for folder in runs[name] if (folder / "last.keras").exists()]
            cells.append(f"{statistics.mean(map(minutes, finished)):.0f}")
            print(f"| {name} | {' | '.join(cells)} |")


def class_table(folders):
    """Prints the IoU of each class, mean over seeds."""
    found = [json.loads((f / "one_view.json").read_text("utf-8"))["classes"] for f in folders]
    print("\n| class | IoU, one view |\n|---|---|")
    for name in found[0]:
        print(f"| {name} | {100 * statistics.mean(f[name] for f in found):.1f} % |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--root", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--candidates", nargs="+", help="rows of the table [all]")
    parser.add_argument("--epochs", type=int, help="of each training [choose: 15]")
    parser.add_argument("--weights", help="a file, instead of the package of the weights")
    parser.add_argument("--output", type=Path, default=Path("runs/camvid_study"))
    parser.add_argument("--only-print", action="store_true", help="print finished rows only")
    args = parser.parse_args()
    from keras_psp.training.recipes import recipe

    names = args.candidates or list(TASKS[args.task])
    if unknown := set(names) - set(TASKS[args.task]):
        parser.error(f"{args.task} has no {unknown}; it has {list(TASKS[args.task])}")
    fields = {"epochs": args.epochs, "weights": args.weights}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    runs = {}
    for seed in args.seeds:
        if args.task == "refine":
            fields["weights"] = str(args.output / "report" / f"camvid_lite0-{seed}" / "last.keras")
        for name in names:
            changes = TASKS[args.task][name] | {k: v for k, v in fields.items() if v}
            chosen = recipe("camvid_lite0", **changes, seed=seed)
            folder = args.output / args.task / f"{name.replace(', ', '_').replace(' ', '_')}-{seed}"
            runs.setdefault(name, []).append(folder)
            if not args.only_print:
                progress(f"{name}, seed {seed}")
                in_a_process(choose if args.task == "choose" else report, chosen, args.root, folder)
    print(environment(("tensorflow",)) + "\n")
    if args.task == "choose":
        table(names, runs, {"held_out": f"mean IoU of {HELD_OUT}"})
    else:
        table(names, runs, {"one_view": "test, one view", "six_scales": "test, six scales, flip"})
        class_table([f for f in runs[names[0]] if (f / "one_view.json").exists()])


if __name__ == "__main__":
    main()
