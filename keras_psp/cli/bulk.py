"""`keras-psp bulk`: predicts or evaluates large image sets with Apache Beam."""

import argparse
import sys
from typing import Any

from keras_psp.cli.predict import SOME_FAILED
from keras_psp.cli.protocol import add_protocol, protocol_arguments


def add(commands: Any) -> None:
    """Adds the subcommand."""
    bulk = commands.add_parser(
        "bulk",
        help="predict or evaluate many images with Apache Beam, on one machine or many",
        description="Predict the classes of many images with Apache Beam, and evaluate them if "
        "they have labels. Run the same command again to resume a job that was stopped. "
        "Arguments after -- are passed to Beam, e.g. "
        f"-- --runner=DataflowRunner --project=NAME. The exit status is {SOME_FAILED} if some of "
        "the images have no result, and 1 if none has.",
        epilog="""\
examples:
  keras-psp bulk --model runs/mine --images "photos/**.jpg" --output results --workers 4
""",
    )
    bulk.add_argument(
        "--model",
        required=True,
        help="a preset, a .keras file, or the folder of a training run, see `keras-psp predict`",
    )
    images = bulk.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--images", nargs="+", metavar="PATTERN", help="image files, e.g. 'photos/**.jpg'"
    )
    images.add_argument("--list", metavar="FILE", help="text file with one `image label` per line")
    images.add_argument("--tfrecords", nargs="+", metavar="PATTERN", help="TFRecord files")
    bulk.add_argument(
        "--root", help="folder that names of results, and paths in the --list, are relative to"
    )
    bulk.add_argument(
        "--labels",
        nargs="+",
        metavar="OLD=NEW",
        help="evaluate; replacements that turn the path of an image into that of its label, each "
        "for the last OLD in the path, e.g. images/=annotations/ .jpg=.png",
    )
    bulk.add_argument(
        "--labeled", action="store_true", help="evaluate with the labels in the --tfrecords"
    )
    bulk.add_argument("--output", required=True, help="folder of the results")
    bulk.add_argument(
        "--format", choices=("png", "tfrecord"), default="png", help="format of the results [png]"
    )
    bulk.add_argument("--shards", type=int, default=8, help="number of TFRecord files [8]")
    bulk.add_argument(
        "--ignore-class", type=int, default=255, metavar="VALUE", help="label to ignore [255]"
    )
    bulk.add_argument(
        "--reduce-zero-label",
        action="store_true",
        help="ignore label 0 and count classes from 1, as in the files of ADE20K",
    )
    add_protocol(bulk)
    bulk.add_argument("--workers", type=int, default=1, help="processes on this machine [1]")
    bulk.add_argument(
        "--share-model", action="store_true", help="share one network among these processes"
    )


def split_beam_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Splits the command line at "--"; what follows is for Beam."""
    if arguments[:1] == ["bulk"] and "--" in arguments:
        place = arguments.index("--")
        return arguments[:place], arguments[place + 1 :]
    return arguments, []


def run(options: argparse.Namespace) -> int:
    """Runs the job and prints its outcome."""
    source = _source(options)  # fails first if Beam isn't installed
    protocol = protocol_arguments(options)
    from keras_psp.beam import JobError, predict_many
    from keras_psp.evaluation import Measures

    try:
        outcome = predict_many(
            source,
            options.model,
            options.output,
            format=options.format,
            shards=options.shards,
            ignore_class=options.ignore_class,
            label_lookup=_from_one(options) if options.reduce_zero_label else None,
            share_model=options.share_model,
            workers=options.workers,
            beam_options=options.beam,
            progress=not options.quiet,
            **protocol,
        )
    except JobError as error:
        raise ValueError(str(error)) from error
    if outcome is None:
        print(f"the job was submitted; its results will be in {options.output}")
        return 0
    if outcome.confusion is not None:
        Measures(outcome.confusion, outcome.class_names).print()
    print(f"{outcome.images} images: {outcome.output}")
    if outcome.failures:
        print(
            f"keras-psp: {len(outcome.failures)} more images have no result; the reasons are in "
            f"{outcome.output}/failed.jsonl. Run the same command again to retry them.",
            file=sys.stderr,
        )
        return SOME_FAILED if outcome.images else 1
    return 0


def _from_one(options):
    """Maps labels that count classes from 1, and 0 for none, to classes."""
    from keras_psp.beam.handler import model_facts

    lookup = {value + 1: value for value in range(model_facts(options.model).num_classes)}
    return lookup | {0: options.ignore_class, options.ignore_class: options.ignore_class}


def _source(options):
    from keras_psp.beam import ImageFiles, ImageList, TFRecords

    if options.labels and not options.images:
        raise ValueError("--labels requires --images; lists and TFRecords contain their labels.")
    if options.labeled and not options.tfrecords:
        raise ValueError("--labeled requires --tfrecords; for --images, use --labels OLD=NEW.")
    if options.list:
        if options.root is None:
            raise ValueError("--list requires --root, the folder that its paths are relative to.")
        return ImageList(options.list, options.root)
    if options.tfrecords:
        if options.root is not None:
            raise ValueError("--root can't be used with --tfrecords; the records contain names.")
        return TFRecords(options.tfrecords, options.labeled)
    rules = []
    for rule in options.labels or ():
        old, equals, new = rule.partition("=")
        if not equals or not old:
            raise ValueError(f"--labels {rule}: expected OLD=NEW, e.g. images/=annotations/.")
        rules.append((old, new))
    return ImageFiles(options.images, rules, options.root)
