"""`keras-psp train`: trains by a recipe."""

import argparse
import dataclasses
from pathlib import Path

from keras_psp.cli.checks import check_output
from keras_psp.cli.data import add_data_options, data_options

# The first field of each group of the help.
_GROUPS = {
    "dataset": "data",
    "backbone": "network",
    "epochs": "examples",
    "optimizer": "optimizer",
    "loss": "loss",
    "ema": "run",
}
_EXAMPLES = """\
examples:
  keras-psp train folder --data photos/ --output runs/mine --crop-size 321 --epochs 50
  keras-psp train folder --data photos/ --output runs/small --backbone resnet18 --output-stride 16
  keras-psp train camvid --data CamVid/ --output runs/phone --backbone efficientnet_lite0
  keras-psp train folder --data fields/ --channels 4 --output runs/fields
  keras-psp train voc2012 --data VOCdevkit/ --extra coco=COCO/ --output runs/voc_coco
  keras-psp train ade20k_resnet101 --data ADEChallengeData2016/ --output runs/ade20k
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    from keras_psp.training.recipes import NAMES

    train = commands.add_parser(
        "train",
        help="train a network by a recipe, or resume a run",
        description="Train a network by a recipe. The same command resumes a run that was "
        "stopped. Every field of the recipe can be replaced; the defaults in brackets are those "
        "for your own data: semseg's for ADE20K, except for the data set and the weights.",
        epilog=_EXAMPLES,
    )
    train.add_argument("recipe", help=NAMES)
    train.add_argument(
        "--data",
        type=Path,
        nargs="+",
        help="folder of the data set, or several whose splits are joined",
    )
    train.add_argument(
        "--extra",
        nargs="+",
        metavar="NAME=FOLDER",
        default=[],
        help="further data sets to train on, e.g. coco=COCO; to weight them, name their splits: "
        "--train-split 2*train+coco:train",
    )
    train.add_argument("--output", type=Path, required=True, help="folder of the run")
    train.add_argument(
        "--unreadable",
        choices=("stop", "skip", "trust"),
        default="stop",
        help="files that can't be read: stop before training, skip them, or trust that there are "
        "none without checking [stop]",
    )
    train.add_argument(
        "--partial", action="store_true", help="accept an incomplete copy of the data set"
    )
    add_data_options(train)
    _add_fields(train)


def _add_fields(train):
    """Adds an option for each field of the recipe."""
    from keras_psp.training.recipes import Recipe

    for field in dataclasses.fields(Recipe):
        if field.name in ("name", "origin"):
            continue
        if field.name in _GROUPS:
            group = train.add_argument_group(f"recipe: {_GROUPS[field.name]}")
        kind = str(field.type)
        text = field.metadata["help"].replace("`", "").replace("%", "%%")
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=f"field_{field.name}",
            nargs="*" if "tuple" in kind else None,
            metavar=_value_name(field),
            help=f"{text} [{_as_typed(field.default)}]",
        )


def _value_name(field):
    """What a value of a field is called in the help."""
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    if "bool" in kind:
        return "true|false"
    if field.name == "reduction":
        return "N|auto"
    if "float" in kind:
        return "X"
    return "N" if "int" in kind else "NAME"


def _as_typed(value):
    """A value as it is typed on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(_as_typed, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def run(options: argparse.Namespace) -> int:
    """Trains, and prints where the results are."""
    from keras_psp.training.bands import check_bands
    from keras_psp.training.inputs import check_splits, check_weights, open_source, with_extra
    from keras_psp.training.recipes import Recipe, parse_field, recipe

    fields = {
        field.name: parse_field(field.name, [words] if isinstance(words, str) else words)
        for field in dataclasses.fields(Recipe)
        if (words := getattr(options, f"field_{field.name}", None)) is not None
    }
    chosen = recipe(options.recipe, **fields)
    check_output(options.output)
    check_weights(chosen, paths=not (options.output / "recipe.json").exists())
    complete, given = not options.partial, data_options(options)
    source, _ = open_source(chosen, options.data, complete=complete, **given)
    source, chosen = with_extra(source, chosen, options.extra, complete=complete)
    check_splits(source, chosen)
    check_bands(source, chosen)
    from keras_psp.training import train

    finished = train(
        chosen,
        data=source,
        output=options.output,
        unreadable=options.unreadable,
        progress=not options.quiet,
    )
    if finished.best_mean_iou == finished.best_mean_iou:  # not NaN
        print(f"best mean IoU {finished.best_mean_iou:.2%}: {finished.folder / 'best.keras'}")
    print(finished.folder / "last.keras")
    return 0
