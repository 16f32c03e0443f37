"""`keras-psp bulk`: predict or evaluate whole image sets with Apache Beam."""

import argparse
import sys

from keras_psp.cli.predict import SOME_FAILED
from keras_psp.cli.protocol import add_protocol, protocol_arguments


def add(commands) -> None:
    """Add the command to the parser's."""
    bulk = commands.add_parser(
        "bulk",
        help="predict or evaluate many images with Apache Beam; the same command goes on",
        description="Predict the classes of many images, and with labels evaluate. The same "
        "command again goes on where it was stopped. Without labels images are seen as `predict` "
        "does, upright by their EXIF, with labels as stored, as in training; both at their own "
        "size unless --base-size says otherwise. What stands after -- goes to Beam: "
        "-- --runner=DataflowRunner --project=... The exit status is "
        f"{SOME_FAILED} where some images have no result and others have, 1 where none has.",
    )
    bulk.add_argument(
        "--model", required=True, help="a preset's name, a .keras file or the folder of a training"
    )
    images = bulk.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--images", nargs="+", metavar="PATTERN", help="image files, as 'photos/**.jpg'"
    )
    images.add_argument("--list", metavar="FILE", help="text file of `image label` lines")
    images.add_argument("--tfrecords", nargs="+", metavar="PATTERN", help="TFRecord files")
    bulk.add_argument("--root", help="folder that names, and paths of --list, are relative to")
    bulk.add_argument(
        "--labels",
        nargs="+",
        metavar="OLD=NEW",
        help="evaluate; a label's path is its image's with these replacements, each of the last "
        "OLD in it: images/=annotations/ .jpg=.png",
    )
    bulk.add_argument(
        "--labelled", action="store_true", help="evaluate by the labels in the --tfrecords"
    )
    bulk.add_argument("--output", required=True, help="folder of the results")
    bulk.add_argument("--format", choices=("png", "tfrecord"), default="png")
    bulk.add_argument("--shards", type=int, default=8, help="number of TFRecord files [8]")
    bulk.add_argument("--ignore-class", type=int, default=255, metavar="VALUE", help="[255]")
    bulk.add_argument(
        "--reduce-zero-label",
        action="store_true",
        help="labels count from 1 and 0 is ignored, as ADE20K's files have it",
    )
    add_protocol(bulk, auto=False)
    bulk.add_argument("--workers", type=int, default=1, help="processes on this machine [1]")
    bulk.add_argument(
        "--share-model", action="store_true", help="one network for all processes of a machine"
    )
    bulk.add_argument("--quiet", action="store_true", help="no progress")


def without_beam_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command line up to "--", and what stands after it, for Beam."""
    if arguments[:1] == ["bulk"] and "--" in arguments:
        place = arguments.index("--")
        return arguments[:place], arguments[place + 1 :]
    return arguments, []


def run(options: argparse.Namespace) -> int:
    """Predict, and say what came of it."""
    source = _source(options)  # also says it where Beam isn't installed
    from keras_psp.beam import JobError
    from keras_psp.evaluation import Measures

    try:
        done = _predicted(options, source)
    except JobError as error:
        print(f"keras-psp: {error}", file=sys.stderr)
        return 1
    if done is None:
        print(f"the job was handed over; its results will be in {options.output}")
        return 0
    if done.confusion is not None:
        Measures(done.confusion, done.class_names).print()
    print(f"{done.images} images: {done.output}")
    if done.failures:
        print(
            f"keras-psp: no result for {len(done.failures)} more; {done.output}/failed.jsonl has "
            "the reasons, and the same command tries them again.",
            file=sys.stderr,
        )
        return SOME_FAILED if done.images else 1
    return 0


def _predicted(options, source):
    protocol = protocol_arguments(options)
    from keras_psp.beam import predict_many
    from keras_psp.beam.handler import model_facts

    lookup = None
    if options.reduce_zero_label:
        lookup = {value + 1: value for value in range(model_facts(options.model).num_classes)}
        lookup |= {0: options.ignore_class, options.ignore_class: options.ignore_class}
    return predict_many(
        options.model,
        source,
        options.output,
        format=options.format,
        shards=options.shards,
        ignore_class=options.ignore_class,
        label_lookup=lookup,
        share_model=options.share_model,
        workers=options.workers,
        beam_options=options.beam,
        progress=not options.quiet,
        **protocol,
    )


def _source(options):
    from keras_psp.beam import ImageFiles, ImageList, TFRecords

    if options.labels and not options.images:
        raise ValueError("--labels goes with --images; a list or TFRecords have their own.")
    if options.labelled and not options.tfrecords:
        raise ValueError("--labelled goes with --tfrecords; give --labels OLD=NEW for --images.")
    if options.list:
        if options.root is None:
            raise ValueError("--list needs --root, the folder that its paths are relative to.")
        return ImageList(options.list, options.root)
    if options.tfrecords:
        if options.root is not None:
            raise ValueError("--root doesn't go with --tfrecords; names stand in the records.")
        return TFRecords(options.tfrecords, options.labelled)
    rules = []
    for rule in options.labels or ():
        old, found, new = rule.partition("=")
        if not found or not old:
            raise ValueError(f"--labels {rule}: a rule is OLD=NEW, as images/=annotations/.")
        rules.append((old, new))
    return ImageFiles(options.images, rules, options.root)
