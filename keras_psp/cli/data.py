"""The options that say which data to use and how to read it, for every command that does."""

import argparse
import sys
from pathlib import Path
from typing import Any

_UNLABELED = ("background", "ignore")


def add_model_and_data(
    parser: argparse.ArgumentParser,
    split: str,
    *,
    datasets: str = "ade20k, voc2012, cityscapes, camvid, folder ...",
    split_use: str = "split of the data set",
) -> None:
    """Adds a network and the split to run it on; `split` is the default."""
    parser.add_argument("dataset", help=datasets)
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument(
        "--model",
        required=True,
        help="a preset (name, folder, or address hf://... or kaggle://...), a .keras file, or the "
        "folder of a training run",
    )
    parser.add_argument("--split", default=split, help=f"{split_use} [{split}]")
    parser.add_argument(
        "--partial", action="store_true", help="accept an incomplete copy of the data set"
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how images and labels belong together and are read."""
    group = parser.add_argument_group("your own data")
    group.add_argument(
        "--images",
        metavar="PATTERN",
        help="pattern of the images, in quotes [images/*], e.g. 'img/*.jpg'",
    )
    group.add_argument(
        "--labels",
        metavar="PATTERN",
        help="pattern of their labels, in quotes [labels/{stem}.png], e.g. 'masks/{stem}_mask.png'",
    )
    group.add_argument(
        "--label-map",
        nargs="+",
        metavar="VALUE=CLASS",
        help="map values in the labels to classes, e.g. 255=1, 1-254=1 or 128=ignore",
    )
    group.add_argument(
        "--channels",
        type=int,
        metavar="N",
        help="bands of the images, if they aren't RGB: 1 for gray, 4 with near infrared, ... [3]",
    )
    group.add_argument(
        "--unlabeled",
        choices=_UNLABELED,
        help="class of pixels outside all shapes, for labelme, COCO, CVAT and Supervisely "
        "[background]",
    )


def data_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments for `keras_psp.data.load` that `add_data_options` gives, by name."""
    from keras_psp.data.label_map import parse_label_map

    given = {name: getattr(options, name) for name in ("images", "labels", "unlabeled", "channels")}
    if options.label_map is not None:
        given["label_map"] = parse_label_map(options.label_map)
    return {name: value for name, value in given.items() if value is not None}


def recognized_data(path: Path, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the name and arguments with which `keras_psp.data.load` reads a folder.

    What was recognized is printed on stderr. `given` are the arguments on the command line.
    """
    from keras_psp.data.labels.recognition import recognized

    if given.keys() & {"images", "labels", "label_map", "channels"}:
        return "folder", given
    found = recognized(path)
    if found is None:
        return "folder", given  # whose error says what is missing
    print(f"{path}: {found.what}", file=sys.stderr)
    return found.name, {**found.options, **given}
