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
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ablation_report import draw, print_table
from ablation_tables import SETTINGS, TABLES
from measure import environment, progress

from keras_psp.training.recipes import typed


def judged(folder, name, root, counts, image_size, fields, protocol):
    """Train what isn't trained yet, judge it, and keep the figures in the folder."""
    import keras_psp
    from keras_psp import data
    from keras_psp.evaluation.protocol import SIX_SCALES
    from keras_psp.files import written_aside
    from keras_psp.training import recipe

    setting = SETTINGS[name]
    chosen = recipe(setting.recipe, **fields)
    if setting.recipe == "scenes":
        source = data.GeneratedScenes(seed=chosen.seed, image_size=image_size, counts=counts)
    else:
        source = data.load(setting.recipe, root=root)
    keras_psp.train(chosen, data=source, output=folder)  # at once where it is done
    views = {"scales": SIX_SCALES, "flip": True} if protocol == "multi_scale" else {}
    found = keras_psp.evaluate(folder, source, split=setting.split, **views)
    confusion = found.measures.confusion
    figures = {"mean IoU": found.mean_iou, "pixel accuracy": found.pixel_accuracy}
    if setting.recipe == "scenes":
        figures |= context_figures(confusion, found.measures.iou)
    figures["classes"] = dict(zip(source.class_names, found.measures.iou.tolist(), strict=True))
    with written_aside(folder / f"{protocol}.json") as draft:
        draft.write_text(json.dumps(figures, indent=1))


def context_figures(confusion, iou):
    """Of the classes that only the rest of the picture tells apart.

    "context IoU" is their mean; "told apart" the share of their pixels with the right name, among
    those that were given a name of the pair: a half is chance.
    """
    from keras_psp.data.scenes import CLASS_NAMES, CONTEXT_CLASSES

    index = [CLASS_NAMES.index(name) for name in CONTEXT_CLASSES]
    told = []
    for pair in (index[:2], index[2:]):
        inner = confusion[pair][:, pair]
        told.append(inner.trace() / inner.sum())
    return {"context IoU": float(iou[index].mean()), "told apart": float(sum(told) / 2)}


def jobs(args):
    """(table, row's name, paper's figures, seed, folder, fields, protocol) in order of work."""
    setting = SETTINGS[args.data]
    depths = tuple(args.depths or setting.depths)
    for seed in args.seeds:
        for number in args.table:
            for row in TABLES[number]:
                if row.depth >= len(depths):
                    continue
                fields = setting.fields | dict(args.set) | row.fields
                fields |= {"backbone": depths[row.depth], "seed": seed}
                name = f"{fields['backbone'].replace('resnet', 'ResNet')} {row.name}"
                folder = args.output / args.data / slug(fields, args)
                protocol = "multi_scale" if row.multi_scale else "single_scale"
                yield number, name, row.paper, seed, folder, fields, protocol


def slug(fields, args):
    """A folder's name, the same for the same training."""
    text = {key: value for key, value in fields.items() if key != "seed"}
    if args.data == "scenes":
        text |= {"pictures": args.pictures, "size": args.size}
    words = [f"{key}={value}" for key, value in sorted(text.items())]
    line = ",".join(words).replace(" ", "").replace("'", "").replace("resnet", "")
    return f"{line}/seed{fields['seed']}"


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
    parser.add_argument("--size", type=int, default=96, help="of generated scenes, pixels")
    parser.add_argument("--pictures", type=int, default=1200, help="generated for training")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--plots", type=Path, help="folder for a picture of each table")
    parser.add_argument("--only-print", action="store_true", help="what is done, train nothing")
    args = parser.parse_args()
    counts = {"train": args.pictures, "val": 200, "test": 300}
    found = {}
    work = list(jobs(args))
    for index, (number, name, paper, seed, folder, fields, protocol) in enumerate(work, 1):
        written = folder / f"{protocol}.json"
        if not written.exists() and not args.only_print:
            progress(f"{index} of {len(work)}: table {number}, {name}, seed {seed}")
            folder.mkdir(parents=True, exist_ok=True)
            size = (args.size, args.size)
            # A process each: what a training leaves in memory goes with it.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                job = (folder, args.data, args.root, counts, size, fields, protocol)
                pool.submit(judged, *job).result()
        if written.exists():
            found.setdefault((number, name, paper), {})[seed] = json.loads(written.read_text())
    print(environment(("tensorflow",)))
    for number in args.table:
        rows = {name: (paper, runs) for (n, name, paper), runs in found.items() if n == number}
        if rows:
            print_table(number, rows)
        if rows and args.plots:
            draw(number, rows, args.plots / f"ablations_table{number}_{args.data}.png")


if __name__ == "__main__":
    main()
