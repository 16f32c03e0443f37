"""The `keras-psp` command."""

import argparse
import sys
from pathlib import Path

from keras_psp.cli import bulk, evaluate, export, predict, train


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors that name their remedy are printed without a traceback."""
    parser = argparse.ArgumentParser(prog="keras-psp", description="PSPNet in Keras 3")
    commands = parser.add_subparsers(dest="command", required=True)

    presets = commands.add_parser("presets", help="list the trained networks")
    presets.add_argument("--dataset", help="only those of one data set, as ade20k")

    fetch = commands.add_parser("fetch", help="fetch and convert trained networks ahead of use")
    fetch.add_argument("presets", nargs="+", metavar="PRESET")

    convert = commands.add_parser("convert", help="make a .keras file of another project's")
    convert.add_argument("files", nargs="+", type=Path, metavar="FILE")
    convert.add_argument("--output", type=Path, help="default: the file's name with .keras")
    convert.add_argument(
        "--align-corners", choices=("true", "false"), help="where the file doesn't tell it"
    )
    convert.add_argument("--output-stride", type=int, choices=(8, 16, 32))
    convert.add_argument("--force", action="store_true", help="replace an existing file")

    train.add(commands)
    evaluate.add(commands)
    predict.add(commands)
    bulk.add(commands)
    export.add(commands)

    own, beam = bulk.split_beam_options(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(own, argparse.Namespace(beam=beam))
    run = {
        "presets": _presets,
        "fetch": _fetch,
        "convert": _convert,
        "train": train.run,
        "evaluate": evaluate.run_evaluate,
        "submit": evaluate.run_submit,
        "predict": predict.run,
        "bulk": bulk.run,
        "export": export.run,
    }
    try:
        return run[options.command](options)
    except KeyboardInterrupt as error:
        print(f"keras-psp: {error or 'stopped'}", file=sys.stderr)
        return 130  # as shells have it
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"keras-psp: {error}", file=sys.stderr)
        return 1


def _presets(options):
    from keras_psp.weights import list_presets

    print(list_presets(options.dataset))
    return 0


def _fetch(options):
    from keras_psp.weights.presets import find_preset, open_preset

    for name in options.presets:
        find_preset(name)  # a wrong name is told before the first download
    for name in options.presets:
        open_preset(name)
        print(f"{name} is ready", file=sys.stderr)
    return 0


def _convert(options):
    from keras_psp.files import written_aside
    from keras_psp.weights import convert

    output = options.output or Path(options.files[0].resolve()).with_suffix(".keras")
    if output.suffix != ".keras":
        raise ValueError(f"--output {output}: the name must end in .keras.")
    if any(output.resolve() == file.resolve() for file in options.files):
        raise ValueError(f"--output {output} is the file to convert; give another name.")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; give the name of a file.")
    if output.exists() and not options.force:
        raise ValueError(f"{output} exists; give another --output, or --force to replace it.")
    chosen = {}
    if options.align_corners:
        chosen["align_corners"] = options.align_corners == "true"
    if options.output_stride:
        chosen["output_stride"] = options.output_stride
    files = options.files[0] if len(options.files) == 1 else options.files
    model = convert(files, **chosen)
    with written_aside(output) as draft:
        model.save(draft)
    print(output)
    return 0
