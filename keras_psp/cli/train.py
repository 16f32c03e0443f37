"""`keras-psp train`: trains by a recipe."""

import argparse
import dataclasses
from pathlib import Path

from keras_psp.cli.data import add_data_options, data_options


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    from keras_psp.training.recipes import NAMES, Recipe

    train = commands.add_parser(
        "train",
        help="train a network by a recipe, or resume a training",
        description="Train a network by a recipe. The same command resumes a training that was "
        "stopped. Every field of the recipe can be replaced; the defaults in brackets are those "
        "for your own data: semseg's for ADE20K, except for the data set and the weights.",
    )
    train.add_argument("recipe", help=NAMES)
    train.add_argument("--data", type=Path, help="folder of the data set")
    train.add_argument("--output", type=Path, required=True, help="folder of the run")
    train.add_argument(
        "--unreadable",
        choices=("stop", "skip", "trust"),
        default="stop",
        help="files that can't be read: stop before training, skip them, or don't check",
    )
    train.add_argument(
        "--partial", action="store_true", help="accept an incomplete copy of the data set"
    )
    train.add_argument("--quiet", action="store_true", help="show no progress bars")
    add_data_options(train)
    fields = train.add_argument_group("fields of the recipe")
    for field in dataclasses.fields(Recipe):
        if field.name not in ("name", "origin"):
            text = field.metadata["help"].replace("`", "").replace("%", "%%")
            fields.add_argument(
                f"--{field.name.replace('_', '-')}",
                dest=f"field_{field.name}",
                nargs="*",
                metavar="VALUE",
                help=f"{text} [{field.default}]",
            )


def run(options: argparse.Namespace) -> int:
    """Trains, and prints where the results are."""
    from keras_psp.training import Recipe, recipe, train
    from keras_psp.training.recipes import parse_field

    fields = {
        field.name: parse_field(field.name, words)
        for field in dataclasses.fields(Recipe)
        if (words := getattr(options, f"field_{field.name}", None)) is not None
    }
    chosen, data = recipe(options.recipe, **fields), options.data
    if given := data_options(options):
        from keras_psp.data import load

        data = load(chosen.dataset, root=data, complete=not options.partial, **given)
    finished = train(
        chosen,
        data=data,
        output=options.output,
        unreadable=options.unreadable,
        complete=not options.partial,
        progress=not options.quiet,
    )
    if finished.best_mean_iou == finished.best_mean_iou:  # not NaN
        print(f"best mean IoU {finished.best_mean_iou:.2%}: {finished.folder / 'best.keras'}")
    print(finished.folder / "last.keras")
    return 0
