"""The ablations of the paper (tables 1 to 4) by one command, on your data.

    python benchmarks/ablations.py --table 1 --seeds 0 1 2              # generated scenes
    python benchmarks/ablations.py --table 1 2 --data camvid --root CamVid
    python benchmarks/ablations.py --table 1 2 --data camvid_half --root CamVid --seeds 0

Every row is trained by the package's recipe of the data set and judged by `keras_psp.evaluate`,
in a process of its own. A training that is stopped goes on where it was, and what is done isn't
done again: the same command prints the tables at the end, with the paper's figures beside, and
draws them. Rows that two tables share are trained once.
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

from keras_psp.training.recipes import typed


def judged(job, split, root, image_size, counts):
    """Train what isn't trained yet, judge it, and keep the figures in the folder."""
    import keras_psp
    from keras_psp import data
    from keras_psp.files import written_aside
    from keras_psp.prediction.protocol import SIX_SCALES

    scenes = job.recipe.dataset == "scenes"
    if scenes:
        source = data.GeneratedScenes(seed=job.recipe.seed, image_size=image_size, counts=counts)
    else:
        source = data.load(job.recipe.dataset, root=root)
    keras_psp.train(job.recipe, data=source, output=job.folder)  # at once where it is done
    views = {"scales": SIX_SCALES, "flip": True} if job.row.multi_scale else {}
    found = keras_psp.evaluate(job.folder, source, split=split, **views)
    confusion = found.measures.confusion
    figures = {"mean IoU": found.mean_iou, "pixel accuracy": found.pixel_accuracy}
    if scenes:
        figures |= context_figures(confusion, found.measures.iou)
    figures["classes"] = dict(zip(source.class_names, found.measures.iou.tolist(), strict=True))
    with written_aside(job.figures) as draft:
        draft.write_text(json.dumps(figures, indent=1))


def context_figures(confusion, iou):
    """Of the classes that only the rest of the picture tells apart.

    "context IoU" is their mean; "told apart" the share of their pixels with the right name, among
    those that were given a name of the pair: a half is chance.
    """
    from keras_psp.data.scenes.classes import CLASS_NAMES, CONTEXT_CLASSES

    index = [CLASS_NAMES.index(name) for name in CONTEXT_CLASSES]
    told = []
    for pair in (index[:2], index[2:]):
        inner = confusion[pair][:, pair]
        told.append(inner.trace() / inner.sum())
    return {"context IoU": float(iou[index].mean()), "told apart": float(sum(told) / 2)}


def check(parser, args):
    """No argument is taken and then ignored."""
    taken = {"seed": "--seeds", "backbone": "--depths"}
    rows = {field for number in args.table for row in TABLES[number] for field in row.fields}
    for field, _ in args.set:
        if field in taken:
            parser.error(f"--set {field}: give {taken[field]}.")
        if field in rows:
            parser.error(f"--set {field}: the rows of the table differ in it.")
    if args.data == "scenes" and args.root is not None:
        parser.error("--root: generated scenes are read from nowhere.")
    for name in ("size", "pictures"):
        if args.data != "scenes" and getattr(args, name) is not None:
            parser.error(f"--{name} is of generated scenes, not of {args.data}.")
    args.size, args.pictures = args.size or 96, args.pictures or 1200


def assignment(text):
    """FIELD=VALUE of a recipe, or FIELD=VALUE,VALUE."""
    key, _, value = text.partition("=")
    return key, typed(key, value.split(",") if value else [])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=int, nargs="+", choices=TABLES, default=[1])
    parser.add_argument("--data", choices=SETTINGS, default="scenes")
    parser.add_argument("--root", type=Path, help="folder of the data set's files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--depths", nargs="+", help="networks, as resnet18 resnet34")
    parser.add_argument(
        "--set", nargs="+", type=assignment, default=[], metavar="FIELD=VALUE", help="of the recipe"
    )
    parser.add_argument("--size", type=int, help="of generated scenes, pixels [96]")
    parser.add_argument("--pictures", type=int, help="generated for training [1200]")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--plots", type=Path, help="folder for a picture of each table")
    parser.add_argument("--only-print", action="store_true", help="what is done, train nothing")
    args = parser.parse_args()
    check(parser, args)
    try:
        work = list(jobs(args))
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = {"train": args.pictures, "val": 200, "test": 300}
    given = (SETTINGS[args.data].split, args.root, (args.size, args.size), counts)
    found = {}
    for index, job in enumerate(work, 1):
        if not job.figures.exists() and not args.only_print:
            seed = job.recipe.seed
            progress(f"{index} of {len(work)}: table {job.table}, {job.name}, seed {seed}")
            job.folder.mkdir(parents=True, exist_ok=True)
            # What a training leaves in memory goes with its process.
            in_a_process(judged, job, *given)
        runs = found.setdefault(job.table, {}).setdefault(job.name, (job.row.paper, {}))[1]
        if job.figures.exists():
            runs[job.recipe.seed] = json.loads(job.figures.read_text("utf-8"))
    print(environment(("tensorflow",)))
    for number, rows in found.items():
        if any(runs for _, runs in rows.values()):
            print_table(number, rows)
            if args.plots:
                draw(number, rows, args.plots / f"ablations_table{number}_{args.data}.png")


if __name__ == "__main__":
    main()
