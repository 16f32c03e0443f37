"""`keras-psp export`: writes networks for programs without Keras."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.arguments import checked_integer
from keras_psp.cli.checks import check_model, check_output
from keras_psp.cli.data import add_data_options, data_options
from keras_psp.files import checked_name


def add(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    export = commands.add_parser(
        "export",
        help="write a network for TF Serving, TFLite, ONNX or OpenVINO",
        description="Write a network for programs without Keras. With --check, evaluate the "
        "network and each export on the same labeled images.",
        epilog="""\
examples:
  keras-psp export runs/mine --format saved_model tflite onnx
  keras-psp export runs/mine --format tflite:int8 --image-size 473 473 --check folder --data photos/
""",
    )
    export.add_argument("model", help="a preset, a .keras file or the folder of a training run")
    export.add_argument(
        "--format",
        nargs="+",
        required=True,
        metavar="FORMAT",
        help="saved_model, tf_serving, tflite, onnx or openvino, optionally with a precision, "
        "e.g. tflite:int8, onnx:int8 or openvino:bfloat16 [float32]",
    )
    export.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models"),
        help="folder of the exports [saved_models]",
    )
    export.add_argument("--name", help="name of the exports [the model's]")
    export.add_argument(
        "--image-size", type=int, nargs=2, metavar=("H", "W"), help="fixed size, faster [any]"
    )
    export.add_argument("--batch-size", type=int, help="fixed number of images [any; tflite: 1]")
    export.add_argument(
        "--input", choices=("uint8", "float32"), default="uint8", help="type of the images [uint8]"
    )
    export.add_argument(
        "--result",
        choices=("classes", "logits", "probabilities"),
        default="classes",
        help="what the network returns [classes, the class of each pixel]",
    )
    export.add_argument(
        "--reduce-range",
        action="store_true",
        help="7-bit weights in onnx:int8, for CPUs without VNNI, where 8 bits overflow",
    )
    export.add_argument("--license", help="license of the weights to store, e.g. 'CC BY-NC 4.0'")
    export.add_argument(
        "--check", metavar="DATASET", help="compare on the images of ade20k, camvid, folder ..."
    )
    export.add_argument("--data", type=Path, help="folder of the data set")
    export.add_argument("--split", default="val", help="split for --check [val]")
    export.add_argument("--limit", type=int, help="number of images for --check [all]")
    export.add_argument(
        "--representative",
        metavar="SPLIT",
        default="train",
        help="split on which int8 measures its ranges [train]",
    )
    export.add_argument(
        "--partial", action="store_true", help="accept an incomplete copy of the data set"
    )
    add_data_options(export)


def run(options: argparse.Namespace) -> int:
    """Writes the exports, prints their paths and, with --check, compares them."""
    chosen = [_format_and_precision(text) for text in options.format]
    if not options.check and any(precision == "int8" for _, precision in chosen):
        raise ValueError(
            "int8 measures its ranges on images; name a data set: --check DATASET --data FOLDER."
        )
    if any(precision == "int8" for _, precision in chosen) and not options.image_size:
        raise ValueError("int8 needs one image size; give --image-size HEIGHT WIDTH.")
    if ("tflite", "int8") in chosen and options.result == "probabilities":
        raise ValueError("--result probabilities: tflite:int8 has none; choose logits or classes.")
    if not options.check and (options.data or options.limit or data_options(options)):
        raise ValueError("--data, --limit and the options for labels are only for --check DATASET.")
    if options.limit is not None:
        checked_integer("--limit", options.limit, least=1)
    if options.reduce_range and ("onnx", "int8") not in chosen:
        raise ValueError("--reduce-range is for --format onnx:int8.")
    if options.check and options.batch_size not in (None, 1):
        raise ValueError(
            f"--batch-size {options.batch_size}: --check uses one image at a time; leave one of "
            "the two out."
        )
    if options.name is not None:
        checked_name(options.name, "give a --name, and its folder by --output")
    if options.batch_size not in (None, 1) and any(kind == "tflite" for kind, _ in chosen):
        raise ValueError(f"--batch-size {options.batch_size}: a TFLite file takes one image.")
    for name, sizes in (("image-size", options.image_size), ("batch-size", options.batch_size)):
        for size in np.atleast_1d(1 if sizes is None else sizes):
            checked_integer(f"--{name}", int(size), least=1)
    check_model(options.model)
    check_output(options.output)
    source = None
    if options.check:
        from keras_psp.data import load

        complete, given = not options.partial, data_options(options)
        source = load(options.check, root=options.data, complete=complete, **given)
        source.count(options.split)  # raises for an unknown or empty split
        if any(precision == "int8" for _, precision in chosen):
            source.count(options.representative)
    from keras_psp.weights.opening import open_model

    model, paths = open_model(options.model), []
    for kind, precision in chosen:
        try:
            paths.append(_export(model, options, source, kind, precision))
        except RuntimeError as error:  # not on TensorFlow, or the file doesn't run
            raise ValueError(str(error)) from error
        print(paths[-1])
    if options.check:
        from keras_psp.export.check import check_exports

        check_exports(
            model,
            paths,
            source,
            split=options.split,
            image_size=options.image_size,
            limit=options.limit,
            progress=not options.quiet,
        ).print()
    return 0


def _format_and_precision(text):
    from keras_psp.export.formats import PRECISIONS

    kind, _, precision = text.partition(":")
    precision = precision or "float32"
    if kind not in PRECISIONS:
        raise ValueError(f"--format {text}: choose one of {', '.join(PRECISIONS)}.")
    if precision not in PRECISIONS[kind]:
        known = ", ".join(PRECISIONS[kind])
        raise ValueError(f"--format {text}: the precisions of {kind} are {known}, not {precision}.")
    return kind, precision


def _export(model, options, source, kind, precision):
    """Writes one export and returns its path."""
    from keras_psp.data import Split
    from keras_psp.export.by_format import FORMATS
    from keras_psp.export.formats import PRECISIONS

    given = Path(options.model).expanduser().resolve()
    name = given.stem if given.suffix == ".keras" else given.name
    name = name if options.name is None else options.name
    arguments = {
        "image_size": options.image_size and tuple(options.image_size),
        "batch_size": options.batch_size,
        "input_dtype": options.input,
        "output": options.result,
        "preset": None if given.exists() else options.model,
        "license": options.license,
    }
    if kind == "tflite":
        del arguments["batch_size"]
    if len(PRECISIONS[kind]) > 1:
        arguments |= {"precision": precision, "progress": not options.quiet}
    if precision == "int8":
        arguments["representative"] = Split(source, options.representative)
        if kind == "onnx":
            arguments["reduce_range"] = options.reduce_range
    if not options.quiet:
        print(f"{kind} {precision} ...", file=sys.stderr)
    ending = FORMATS[kind].ending
    path = options.output / f"{name}{'' if precision == 'float32' else f'_{precision}'}{ending}"
    return FORMATS[kind].write(model, path, **arguments) or path
