"""`keras-psp check`: looks at a data set before anything is trained on it."""

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from keras_psp.cli.data import add_data_options, data_options, recognized_data
from keras_psp.cli.messages import as_typed
from keras_psp.files import claim


def add(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    check = commands.add_parser(
        "check",
        help="check a data set: classes, sizes, faulty files, duplicates",
        description="Read all files of a data set and print how often each class occurs, and what "
        "is wrong or unusual. What was read once is remembered by its content, so that the next "
        "check only reads new files. The exit status is 1 if a file can't be used or training "
        "would learn nothing.",
        epilog="""\
examples:
  keras-psp check photos/
  keras-psp check photos/ --label-map 255=1 --output check
  keras-psp check ade20k --data ADEChallengeData2016/ --split val
""",
    )
    check.add_argument(
        "dataset", help="a folder with images/ and labels/, or ade20k, voc2012, camvid, list ..."
    )
    check.add_argument("--data", type=Path, help="folder of a data set given by name")
    check.add_argument("--split", nargs="+", metavar="SPLIT", help="splits to read [all]")
    check.add_argument(
        "--output",
        type=Path,
        help="folder for contact_sheet.png, images with their labels, and report.json",
    )
    check.add_argument(
        "--partial", action="store_true", help="accept an incomplete copy of the data set"
    )
    add_data_options(check)


def run(options: argparse.Namespace) -> int:
    """Prints the report, and writes it with the contact sheet if there is an output."""
    from keras_psp.data import examine, list_datasets, load

    name, root = options.dataset, options.data
    given = data_options(options)
    if root is None and Path(name).is_dir():
        root = Path(name)
        name, given = recognized_data(root, given)
    elif root is None and name not in list_datasets() and not name.startswith("tfds:"):
        raise ValueError(
            f"{name}: there is neither a folder nor a data set of this name; the data sets are "
            f"{', '.join(list_datasets())}."
        )
    if options.output:
        claim(options.output, "report.json", contents="report of a check")
    source = load(name, root=root, complete=not options.partial, **given)
    report = examine(source, options.split, progress=not options.quiet)
    report.print(wording=functools.partial(as_typed, options=options))
    if options.output:
        from keras_psp.training import contact_sheet

        report.to_json(options.output / "report.json")
        contact_sheet(report, path=options.output / "contact_sheet.png")
        print(options.output / "contact_sheet.png")
    if report.faults() or report.problems(report.train_split):
        print(f"keras-psp: {report.title} isn't ready to train on; see above.", file=sys.stderr)
        return 1
    return 0
