"""The `keras-psp` command."""

import argparse
import sys
import traceback
from pathlib import Path

from keras_psp.cli import bulk, check, evaluate, export, labels, predict, train, weights
from keras_psp.cli.messages import sentence
from keras_psp.files import local_path, printable

SUBCOMMANDS = {
    "presets": weights.run_presets,
    "fetch": weights.run_fetch,
    "convert": weights.run_convert,
    "labels": labels.run,
    "check": check.run,
    "train": train.run,
    "evaluate": evaluate.run_evaluate,
    "submit": evaluate.run_submit,
    "predict": predict.run,
    "bulk": bulk.run,
    "export": export.run,
}
"""Function of each subcommand, from its options to the exit status."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status.

    An error is printed as one sentence; with --verbose its traceback comes first.
    """
    parser = argparse.ArgumentParser(
        prog="keras-psp",
        description="Train, evaluate, apply and export PSPNet, a network for semantic "
        "segmentation. Run `keras-psp COMMAND --help` for the options of a command.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (weights, labels, check, train, evaluate, predict, bulk, export):
        module.add(commands)
    for command in commands.choices.values():
        command.add_argument(
            "--verbose", action="store_true", help="show the traceback if there is an error"
        )
    own, beam = bulk.split_beam_options(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(own, argparse.Namespace(beam=beam))
    try:
        _expand_paths(options)
        return SUBCOMMANDS[options.command](options)
    except KeyboardInterrupt as error:
        print(f"keras-psp: {error or 'stopped'}", file=sys.stderr)
        return 130  # the convention of shells
    except Exception as error:
        if options.verbose:
            traceback.print_exc()
        print(f"keras-psp: {printable(sentence(error, options))}", file=sys.stderr)
        return 1


def _expand_paths(options):
    """Replaces `~` in all paths; addresses are errors where a command needs local files."""
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, local_path(f"--{name}", value))
        elif isinstance(value, list) and any(isinstance(item, Path) for item in value):
            setattr(options, name, [item.expanduser() for item in value])
