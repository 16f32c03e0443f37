"""`keras-psp train`: a recipe on the command line."""

import argparse
import dataclasses
import inspect
import re
from pathlib import Path


def add(commands) -> None:
    """Add the command to the parser's."""
    from keras_psp.training.recipes import RECIPES, Recipe

    short = [name for name in RECIPES if "_resnet" not in name]
    train = commands.add_parser(
        "train",
        help="train a network by a recipe; the same command again goes on with it",
        description="Train a network by a recipe. The same command again goes on where it was "
        "stopped. Every field of the recipe can be given another value; in brackets stands "
        "that of a recipe of one's own: semseg's for ADE20K, but for the data set and the weights.",
    )
    train.add_argument(
        "recipe", help=f"{', '.join(short)}; or with a published depth, as ade20k_resnet101"
    )
    train.add_argument("--data", type=Path, help="folder of the data set")
    train.add_argument("--output", type=Path, required=True, help="folder of the run")
    train.add_argument(
        "--unreadable",
        choices=("stop", "skip", "trust"),
        default="stop",
        help="files that can't be read: stop before training, skip them, or don't look",
    )
    train.add_argument(
        "--partial", action="store_true", help="take a copy of the data set that isn't complete"
    )
    train.add_argument("--quiet", action="store_true", help="no progress bars")
    fields = train.add_argument_group("fields of the recipe")
    for field in dataclasses.fields(Recipe):
        if field.name not in ("name", "origin"):
            fields.add_argument(
                f"--{field.name.replace('_', '-')}",
                dest=f"field_{field.name}",
                nargs="*",
                metavar="VALUE",
                help=_help(Recipe, field),
            )


def run(options: argparse.Namespace) -> int:
    """Train, and say where the results are."""
    from keras_psp.training.recipes import Recipe, recipe, typed

    fields = {
        field.name: typed(field.name, given)
        for field in dataclasses.fields(Recipe)
        if (given := getattr(options, f"field_{field.name}", None)) is not None
    }
    chosen = recipe(options.recipe, **fields)  # a wrong value is told before TensorFlow loads
    from keras_psp.training.run import train

    done = train(
        chosen,
        data=options.data,
        output=options.output,
        unreadable=options.unreadable,
        complete=not options.partial,
        progress=not options.quiet,
    )
    if done.best_mean_iou == done.best_mean_iou:
        print(f"best mean IoU {done.best_mean_iou:.2%}: {done.folder / 'best.keras'}")
    print(done.folder / "last.keras")
    return 0


def _help(recipe, field):
    """The field's entry in the recipe's docstring, and its default."""
    entries = re.split(r"\n {4}(?=[a-z_, ]+: )", inspect.cleandoc(recipe.__doc__))
    for entry in entries:
        names, _, text = entry.partition(": ")
        if field.name in [name.strip() for name in names.split(",")]:
            text = " ".join(text.replace("`", "").split()).replace("%", "%%")
            return f"{text} [{field.default}]"
    return f"[{field.default}]"
