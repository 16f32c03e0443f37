"""`keras-psp evaluate` and `keras-psp submit`: a data set on the command line."""

import argparse
from pathlib import Path

from keras_psp.cli.protocol import add_protocol, protocol_arguments


def add(commands) -> None:
    """Add both commands to the parser's."""
    evaluate = commands.add_parser(
        "evaluate",
        help="judge a network on a labelled data set",
        description="Judge a network on a labelled data set. With --output the same command "
        "again goes on where it was stopped.",
    )
    _add_data(evaluate, "val")
    evaluate.add_argument("--output", type=Path, help="folder for tables, report.html and state")
    evaluate.add_argument(
        "--save-predictions", action="store_true", help="class indices as PNG, into the output"
    )
    evaluate.add_argument("--boundary", action="store_true", help="boundary IoU as well")
    evaluate.add_argument("--limit", type=int, help="only the first so many images")
    _add_protocol(evaluate)

    submit = commands.add_parser(
        "submit",
        help="predict a test split for a benchmark's server",
        description="Predict a test split and write it as the server of ADE20K, Cityscapes or "
        "PASCAL VOC 2012 takes it. The same command again goes on where it was stopped.",
    )
    _add_data(submit, "test")
    submit.add_argument("--output", type=Path, required=True, help="folder of the files")
    submit.add_argument("--archive", type=Path, help="pack them: .zip, for VOC .tgz")
    submit.add_argument(
        "--competition", choices=("comp5", "comp6"), help="VOC: trained on VOC alone, or not"
    )
    _add_protocol(submit)


def _add_data(parser, split):
    parser.add_argument("dataset", help="ade20k, voc2012, cityscapes, camvid, folder ...")
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument(
        "--model", required=True, help="a preset's name, a .keras file or the folder of a training"
    )
    parser.add_argument("--split", default=split, help=f"[{split}]")
    parser.add_argument(
        "--partial", action="store_true", help="take a copy of the data set that isn't complete"
    )


def _add_protocol(parser):
    add_protocol(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run_evaluate(options: argparse.Namespace) -> int:
    """Judge and print the tables."""
    source, protocol = _opened(options)
    from keras_psp.evaluation.run import evaluate

    found = evaluate(
        options.model,
        source,
        split=options.split,
        output=options.output,
        save_predictions=options.save_predictions,
        boundary=options.boundary,
        limit=options.limit,
        progress=not options.quiet,
        **protocol,
    )
    found.print()
    if options.output:
        print(options.output / "report.html")
    return 0


def run_submit(options: argparse.Namespace) -> int:
    """Predict, check and say where the files are."""
    chosen = {"competition": options.competition} if options.competition else {}
    if chosen and options.dataset != "voc2012":
        raise ValueError(f"--competition is for voc2012; {options.dataset} has none.")
    source, protocol = _opened(options)
    from keras_psp.prediction.server import submit

    submission = submit(
        options.model,
        source,
        options.dataset,
        options.output,
        split=options.split,
        archive=options.archive,
        progress=not options.quiet,
        **chosen,
        **protocol,
    )
    print(f"{len(submission.images)} files, read back: {options.archive or options.output}")
    return 0


def _opened(options):
    """The data set and the protocol."""
    protocol = protocol_arguments(options)
    from keras_psp.data import load

    return load(options.dataset, root=options.data, complete=not options.partial), protocol
