"""`keras-psp evaluate` and `keras-psp submit`: evaluate or predict a data set."""

import argparse
from pathlib import Path
from typing import Any

from keras_psp.cli.checks import check_model, check_output
from keras_psp.cli.data import add_data_options, add_model_and_data, data_options
from keras_psp.cli.protocol import add_protocol, protocol_arguments


def add(commands: Any) -> None:
    """Adds both commands."""
    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a model on a labeled data set",
        description="Evaluate a model on a labeled data set. With --output, the same command "
        "resumes after an interruption.",
        epilog="""\
examples:
  keras-psp evaluate folder --data photos/ --model runs/mine --output results
  keras-psp evaluate ade20k --data ADEChallengeData2016/ --model runs/ade20k --multi-scale \\
      --crop 473 --base-size 512
""",
    )
    add_model_and_data(evaluate, "val")
    evaluate.add_argument(
        "--output", type=Path, help="folder for tables, report.html and the state to resume from"
    )
    evaluate.add_argument(
        "--save-predictions",
        action="store_true",
        help="write class indices as PNG into the output folder",
    )
    evaluate.add_argument("--boundary", action="store_true", help="compute boundary IoU")
    evaluate.add_argument(
        "--error-groups",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="group wrong pixels by the kind of mistake [yes]",
    )
    evaluate.add_argument(
        "--calibration",
        action="store_true",
        help="measure how well confidence matches accuracy",
    )
    evaluate.add_argument("--limit", type=int, help="number of images to use [all]")

    submit = commands.add_parser(
        "submit",
        help="predict a test split for a benchmark's server",
        description="Predict a test split and write the files that the server of ADE20K, "
        "Cityscapes or PASCAL VOC 2012 accepts. The same command resumes after an interruption.",
        epilog="""\
examples:
  keras-psp submit cityscapes --data cityscapes/ --model runs/city --crop 713 --output files \\
      --archive submission.zip
""",
    )
    add_model_and_data(submit, "test", datasets="ade20k, cityscapes or voc2012")
    submit.add_argument("--output", type=Path, required=True, help="folder for the files")
    submit.add_argument(
        "--archive", type=Path, help="archive to pack them into: .zip, or .tgz for VOC"
    )
    submit.add_argument(
        "--competition",
        choices=("comp5", "comp6"),
        help="for VOC: comp5 if trained on VOC's trainval alone, else comp6 [comp6]",
    )
    add_data_options(evaluate)
    for parser in (evaluate, submit):
        add_protocol(parser)


def run_evaluate(options: argparse.Namespace) -> int:
    """Evaluates a model and prints the tables."""
    source, protocol = _opened(options, **data_options(options))
    if options.save_predictions and not options.output:
        raise ValueError("--save-predictions needs an --output, the folder to write them into.")
    from keras_psp.evaluation.run import evaluate

    evaluation = evaluate(
        source,
        options.model,
        split=options.split,
        output=options.output,
        save_predictions=options.save_predictions,
        boundary=options.boundary,
        error_groups=options.error_groups,
        calibration=options.calibration,
        limit=options.limit,
        progress=not options.quiet,
        **protocol,
    )
    evaluation.print()
    if options.output:
        print(options.output / "report.html")
    return 0


def run_submit(options: argparse.Namespace) -> int:
    """Predicts a test split, checks the files and prints where they are."""
    from keras_psp.prediction.submissions import SERVERS, checked_archive

    if options.dataset not in SERVERS:
        raise ValueError(
            f"{options.dataset} has no server to submit to; choose {', '.join(SERVERS)}."
        )
    if options.archive:
        checked_archive(options.archive)
    competition = {"competition": options.competition} if options.competition else {}
    if competition and options.dataset != "voc2012":
        raise ValueError(f"--competition is only for voc2012, not {options.dataset}.")
    source, protocol = _opened(options)
    from keras_psp.prediction.server import submit

    submission = submit(
        source,
        options.model,
        options.dataset,
        options.output,
        split=options.split,
        archive=options.archive,
        progress=not options.quiet,
        **competition,
        **protocol,
    )
    place = options.archive or options.output
    print(f"{len(submission.images)} files written and checked: {place}")
    return 0


def _opened(options, **given):
    """The data set and the protocol, once the model, the split and the output are checked too."""
    from keras_psp.data import load

    protocol = protocol_arguments(options)
    check_model(options.model)
    check_output(options.output)
    source = load(options.dataset, root=options.data, complete=not options.partial, **given)
    source.count(options.split)  # raises for an unknown or empty split
    return source, protocol
