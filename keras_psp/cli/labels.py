"""`keras-psp labels`: converts the labels of any tool to the folder that `train` reads."""

import argparse
from pathlib import Path
from typing import Any

from keras_psp.cli.data import add_data_options, data_options, recognized_data

_FORMATS = ("folder", "list", "labelme", "coco_instances", "cvat", "supervisely", "roboflow")


def add(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    labels = commands.add_parser(
        "labels",
        help="convert labels of labelme, COCO, CVAT, Supervisely, Roboflow, or color masks",
        description="Convert labeled images once to a folder with images/, labels/, classes.txt "
        "and palette.txt. The labeling tool is recognized by its files. Training can also read "
        "its labels directly, but converted ones are faster for large data sets and easy to view.",
        epilog="""\
examples:
  keras-psp labels labelme_photos/ --output data
  keras-psp labels instances_train.json --output data --link
  keras-psp labels masks/ --images "img/*.jpg" --labels "ann/{stem}.png" --output data
""",
    )
    labels.add_argument("input", type=Path, help="folder of the export, or its annotation file")
    labels.add_argument("--output", type=Path, required=True, help="new or empty folder")
    labels.add_argument("--format", choices=_FORMATS, help="format of the input [recognized]")
    labels.add_argument("--link", action="store_true", help="hard-link images instead of copying")
    add_data_options(labels)


def run(options: argparse.Namespace) -> int:
    """Converts, and prints the number of images and the share of each class."""
    from keras_psp.data import load
    from keras_psp.data.color_labels import UnnamedColors
    from keras_psp.data.labels.conversion import convert_labels, empty_folder

    name, given = options.format, data_options(options)
    if not options.input.exists():
        raise ValueError(f"{options.input}: no such file or folder.")
    empty_folder(options.output)  # before the labels are read, which may take minutes
    if name is None:
        name, given = recognized_data(options.input, given)
    try:
        source = load(name, root=options.input, **given)
    except UnnamedColors as error:
        if error.lines:
            print(f"# {options.input / 'palette.txt'}: replace NAME0 and so on by the classes")
            print("\n".join(error.lines))
        raise
    converted = convert_labels(
        source, options.output, link=options.link, progress=not options.quiet
    )
    print(converted.folder)
    print(converted.summary())
    return 0
