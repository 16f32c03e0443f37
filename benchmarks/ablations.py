"""Runs the ablations of the paper (tables 1 to 4) on your data.

    python benchmarks/ablations.py --table 1 --seeds 0 1 2              # generated scenes
    python benchmarks/ablations.py --table 1 2 --data camvid --root CamVid
    python benchmarks/ablations.py --table 1 2 --data camvid_half --root CamVid --seeds 0
    python benchmarks/ablations.py --table 1 --data camvid_lite0 --root CamVid  # pretrained
    python benchmarks/ablations.py --table 1 --rows B1+MAX B1236+AVE+DR --seeds 0  # two rows

Each row is trained with the package's recipe for the data set and evaluated by
`keras_psp.evaluate`, in a separate process. The same command resumes interrupted trainings, skips
finished ones, and at the end prints and plots the tables next to the paper's figures. Rows that
two tables share are trained once.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from ablation_jobs import jobs
from ablation_report import draw, print_table
from ablation_tables import SETTINGS, TABLES
from measure import environment, in_a_process, progress

from keras_psp.training.recipes import parse_field


def run(job, setting, root, image_size, counts):
    """Trains a job if necessary, evaluates it and writes the figures to its folder."""
    import keras_psp
    from keras_psp import data
    from keras_psp.files import written_aside
    from keras_psp.prediction.protocol import SIX_SCALES

    scenes = job.recipe.dataset == "scenes"
    if scenes:
        source = data.GeneratedScenes(seed=job.recipe.seed, image_size=image_size, counts=counts)
    else:
        source = data.load(job.recipe.dataset, root=root)
    keras_psp.train(job.recipe, data=source, output=job.folder)  # returns at once if finished
    views = {"scales": SIX_SCALES, "flip": True} if job.row.multi_scale else {}
    measures = keras_psp.evaluate(source, job.folder, split=setting.split, **views).measures
    figures = {"mean IoU": measures.mean_iou, "pixel accuracy": measures.pixel_accuracy}
    if setting.familiar:
        familiar = keras_psp.evaluate(source, job.folder, split=setting.familiar, **views)
        figures["familiar mean IoU"] = familiar.measures.mean_iou
    if scenes:
        figures |= context_figures(measures.confusion, measures.iou)
    figures["classes"] = dict(zip(source.class_names, measures.iou.tolist(), strict=True))
    with written_aside(job.figures) as draft:
        draft.write_text(json.dumps(figures, indent=1))


def context_figures(confusion, iou):
    """Figures of the classes that can only be distinguished by the rest of the scene.

    "context IoU" is the mean of their IoU. "context accuracy" is the fraction of correct pixels
    among those that were assigned to either class of the pair. Guessing gives more than 0.5 if it
    leans to the class with more pixels. "balanced context accuracy" weights both classes equally:
    guessing gives 0.5 whichever way it leans.
    """
    from keras_psp.data.scenes.classes import CLASS_NAMES, CONTEXT_CLASSES

    index = [CLASS_NAMES.index(name) for name in CONTEXT_CLASSES]
    pairs = [confusion[pair][:, pair] for pair in (index[:2], index[2:])]
    plain = [pair.trace() / pair.sum() for pair in pairs]
    balanced = [(pair.diagonal() / pair.sum(axis=1)).mean() for pair in pairs]
    return {
        "context IoU": float(iou[index].mean()),
        "context accuracy": float(sum(plain) / 2),
        "balanced context accuracy": float(sum(balanced) / 2),
    }


def check(parser, args):
    """Reports arguments that would have no effect."""
    names = {row.name for number in args.table for row in TABLES[number]}
    if unknown := sorted(set(args.rows or ()) - names):
        parser.error(f"--rows {unknown[0]!r} is in none of the tables; they have {sorted(names)}.")
    instead = {"seed": "--seeds", "backbone": "--depths"}
    rows = {field for number in args.table for row in TABLES[number] for field in row.fields}
    for field, _ in args.set:
        if field in instead:
            parser.error(f"--set {field} has no effect; use {instead[field]}.")
        if field in rows:
            parser.error(f"--set {field} has no effect because the rows of the table set it.")
    scenes = SETTINGS[args.data].recipe == "scenes"
    if scenes and args.root is not None:
        parser.error("--root has no effect on generated scenes.")
    for name in ("size", "images"):
        if not scenes and getattr(args, name) is not None:
            parser.error(f"--{name} applies only to generated scenes, not to {args.data}.")
    args.size, args.images = args.size or 96, args.images or 1200


def assignment(text):
    """Parses FIELD=VALUE or FIELD=VALUE,VALUE of a recipe."""
    key, _, value = text.partition("=")
    return key, parse_field(key, value.split(",") if value else [])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=int, nargs="+", choices=TABLES, default=[1])
    parser.add_argument("--rows", nargs="+", help="names of rows to run; all by default")
    parser.add_argument("--data", choices=SETTINGS, default="scenes")
    parser.add_argument("--root", type=Path, help="folder of the data set's files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--depths", nargs="+", help="networks, e.g. resnet18 resnet34")
    parser.add_argument(
        "--set", nargs="+", type=assignment, default=[], metavar="FIELD=VALUE", help="recipe fields"
    )
    parser.add_argument("--size", type=int, help="side of generated scenes in pixels [96]")
    parser.add_argument("--images", type=int, help="generated training images [1200]")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--plots", type=Path, help="folder for a plot of each table")
    parser.add_argument("--only-print", action="store_true", help="print finished rows only")
    args = parser.parse_args()
    check(parser, args)
    try:
        work = list(jobs(args))
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = {"train": args.images, "val": 200, "test": 300}
    arguments = (SETTINGS[args.data], args.root, (args.size, args.size), counts)
    tables = {}
    for index, job in enumerate(work, 1):
        if not job.figures.exists() and not args.only_print:
            seed = job.recipe.seed
            progress(f"{index} of {len(work)}: table {job.table}, {job.name}, seed {seed}")
            job.folder.mkdir(parents=True, exist_ok=True)
            # A process releases all memory of its training.
            in_a_process(run, job, *arguments)
        runs = tables.setdefault(job.table, {}).setdefault(job.name, (job.row.paper, {}))[1]
        if job.figures.exists():
            runs[job.recipe.seed] = json.loads(job.figures.read_text("utf-8"))
    print(environment(("tensorflow",)))
    for number, rows in tables.items():
        if any(runs for _, runs in rows.values()):
            print_table(number, rows)
            if args.plots:
                draw(number, rows, args.plots / f"ablations_table{number}_{args.data}.png")


if __name__ == "__main__":
    main()
