"""The `keras-psp` command.

The modules of this package import Keras only in the function that runs a subcommand, after
everything that was typed has been checked.
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from keras_psp.cli import (
    bulk,
    calibrate,
    check,
    evaluate,
    explain,
    export,
    info,
    labels,
    predict,
    train,
    upload,
    weights,
)
from keras_psp.cli.completion import SHELLS, completion_script
from keras_psp.cli.help import HelpFormatter, complete_help
from keras_psp.cli.messages import sentence
from keras_psp.files import local_path, printable
from keras_psp.logs import LEVEL, quiet_tensorflow
from keras_psp.progress import hidden_bars
from keras_psp.version import __version__

SUBCOMMANDS = {
    "presets": weights.run_presets,
    "fetch": weights.run_fetch,
    "convert": weights.run_convert,
    "labels": labels.run,
    "check": check.run,
    "train": train.run,
    "evaluate": evaluate.run_evaluate,
    "calibrate": calibrate.run,
    "submit": evaluate.run_submit,
    "predict": predict.run,
    "explain": explain.run,
    "bulk": bulk.run,
    "export": export.run,
    "upload": upload.run,
    "info": info.run,
}
"""Function of each subcommand, from its options to the exit status."""

# Paths that aren't given by an option, as their commands' help calls them.
_POSITIONAL = {"files": "FILE", "input": "PATH"}

_EXAMPLES = """\
examples:
  keras-psp predict photo.jpg --model pspnet_r50-d8_512x512_160k_ade20k
  keras-psp check photos/
  keras-psp train folder --data photos/ --output runs/mine --crop-size 321
  keras-psp export runs/mine --format onnx tflite:int8 --check folder --data photos/

Run `keras-psp COMMAND --help` for the options of a command. The exit status is 0 for success, 1
for an error, 2 for an invalid command line, 3 if some of the inputs have no result, and 130 for
a command that was stopped.
"""


def command_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="keras-psp",
        description="Train, evaluate, apply and export PSPNet, a network for semantic "
        "segmentation.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"keras-psp {__version__}")
    parser.add_argument(
        "--print-completion", choices=SHELLS, help="print the completion script for a shell"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    groups = (weights, labels, check, train, evaluate, calibrate, predict, explain, bulk, export)
    for module in (*groups, upload, info):
        module.add(commands)
    for command in commands.choices.values():
        messages = command.add_argument_group("messages")
        messages.add_argument("--quiet", action="store_true", help="hide progress bars")
        messages.add_argument(
            "--verbose",
            action="store_true",
            help="show TensorFlow's log, and the traceback if there is an error",
        )
        complete_help(command)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status.

    An error is printed as one sentence; with --verbose its traceback comes first.
    """
    parser = command_parser()
    own, beam = bulk.split_beam_options(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(own, argparse.Namespace(beam=beam))
    if options.print_completion:
        print(completion_script(parser, options.print_completion))
        return 0
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    if options.verbose:
        os.environ.setdefault(LEVEL, "0")
    quiet_tensorflow()
    try:
        _expand_paths(options)
        with hidden_bars(options.quiet):
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
        called = _POSITIONAL.get(name, f"--{name.replace('_', '-')}")
        if isinstance(value, Path):
            setattr(options, name, local_path(called, value))
        elif isinstance(value, list) and any(isinstance(item, Path) for item in value):
            setattr(options, name, [local_path(called, item) for item in value])
