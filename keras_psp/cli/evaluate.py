"""`keras-psp evaluate` and `keras-psp submit`: a data set on the command line."""

import argparse
from pathlib import Path
from typing import Any

from keras_psp.prediction.protocol import SIX_SCALES


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
    group = parser.add_argument_group("protocol")
    add_scales(group)
    group.add_argument(
        "--crop", type=int, help="side of a sliding window, as 473 [the whole image]"
    )
    group.add_argument("--overlap", type=float, default=1 / 3, help="of windows [1/3]")
    add_base_size(group)
    group.add_argument("--batch-size", type=int, default=4, help="windows at a time [4]")
    group.add_argument("--quiet", action="store_true", help="no progress bars")


def _base_size(text):
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither auto nor a number of pixels"
        ) from None


def add_base_size(parser) -> None:
    """Add --base-size, "auto", or a number whose 0 stands for None."""
    parser.add_argument(
        "--base-size",
        type=_base_size,
        default="auto",
        help="longer side at scale 1; 0: its own [auto: the training's, where its folder says, 192 "
        "for the network in the package, else its own]",
    )


def add_scales(parser) -> None:
    """Add --scales, --flip and --multi-scale, for `scales_and_flip`."""
    parser.add_argument("--scales", type=float, nargs="+", help="of the pictures, averaged [1]")
    parser.add_argument("--flip", action="store_true", help="average with the mirror image")
    parser.add_argument(
        "--multi-scale", action="store_true", help="the paper's six scales, with flip"
    )


def scales_and_flip(options: argparse.Namespace) -> dict[str, Any]:
    """The two arguments of `Segmenter` that `add_scales` has options for."""
    if options.multi_scale and options.scales:
        raise ValueError("--multi-scale stands for six scales and flip; leave --scales away.")
    return {
        "scales": SIX_SCALES if options.multi_scale else tuple(options.scales or (1.0,)),
        "flip": options.flip or options.multi_scale,
    }


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
    views = scales_and_flip(options)
    from keras_psp.data import load

    source = load(options.dataset, root=options.data, complete=not options.partial)
    return source, {
        **views,
        "crop": options.crop,
        "overlap": options.overlap,
        "base_size": options.base_size or None,
        "batch_size": options.batch_size,
    }
