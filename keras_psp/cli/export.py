"""`keras-psp export`: a network for programs without Keras."""

import argparse
import sys
from pathlib import Path

# What each format can be, and how it is named on the disk.
PRECISIONS = {
    "saved_model": ("float32",),
    "tf_serving": ("float32",),
    "tflite": ("float32", "float16", "dynamic_int8", "int8"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
}
_SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "openvino": "_openvino"}


def add(commands) -> None:
    """Add the command to the parser's."""
    export = commands.add_parser(
        "export",
        help="write a network for TF Serving, TFLite, ONNX or OpenVINO",
        description="Write a network for programs without Keras. With --check, judge the network "
        "and each export on the same labelled images.",
    )
    export.add_argument("model", help="a preset's name, a .keras file or the folder of a training")
    export.add_argument(
        "--format",
        nargs="+",
        required=True,
        metavar="FORMAT",
        help="saved_model, tf_serving, tflite, onnx, openvino; with a precision after a colon, as "
        "tflite:int8, onnx:int8 or openvino:bfloat16 [float32]",
    )
    export.add_argument(
        "--output",
        type=Path,
        default=Path("saved_models"),
        help="folder the exports go into [saved_models]",
    )
    export.add_argument("--name", help="what they are called [the model's]")
    export.add_argument(
        "--image-size", type=int, nargs=2, metavar=("H", "W"), help="fixed: faster [any size]"
    )
    export.add_argument("--batch-size", type=int, help="fixed number of images [any; tflite: 1]")
    export.add_argument("--input", choices=("uint8", "float32"), default="uint8", help="[uint8]")
    export.add_argument(
        "--result",
        choices=("classes", "logits", "probabilities"),
        default="classes",
        help="what comes out [classes, the class of every pixel]",
    )
    export.add_argument("--licence", help="of the weights, kept in the files, as 'CC BY-NC 4.0'")
    export.add_argument(
        "--check", metavar="DATASET", help="ade20k, camvid, folder ...: compare on its images"
    )
    export.add_argument("--data", type=Path, help="folder of the data set")
    export.add_argument("--split", default="val", help="for --check [val]")
    export.add_argument("--limit", type=int, help="only the first so many images of --check")
    export.add_argument(
        "--representative",
        metavar="SPLIT",
        default="train",
        help="split on whose images int8 measures its ranges [train]",
    )
    export.add_argument(
        "--partial", action="store_true", help="take a data set that isn't complete"
    )
    export.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> int:
    """Write the exports, say where they are, and compare them where that was asked for."""
    wanted = [_wanted(text) for text in options.format]
    needs_data = options.check or any(precision == "int8" for _, precision in wanted)
    if needs_data and not options.check:
        raise ValueError(
            "int8 measures its ranges on images; name a data set: --check DATASET --data FOLDER."
        )
    if options.check and options.batch_size not in (None, 1):
        raise ValueError(
            f"--batch-size {options.batch_size}: --check gives one image at a time; export without "
            "it, or check an export for any number of images."
        )
    from keras_psp.weights.opening import open_model

    source = None
    if needs_data:
        from keras_psp.data import load

        source = load(options.check, root=options.data, complete=not options.partial)
    model = open_model(options.model)
    name = options.name or _name(options.model)
    paths = []
    for kind, precision in wanted:
        try:
            path = _export(model, options, source, name, kind, precision)
        except RuntimeError as error:  # another backend than TensorFlow, or a file that won't run
            raise ValueError(str(error)) from error
        print(path)
        paths.append(path)
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


def _wanted(text):
    kind, _, precision = text.partition(":")
    precision = precision or "float32"
    if kind not in PRECISIONS:
        raise ValueError(f"--format {text}: choose one of {', '.join(PRECISIONS)}.")
    if precision not in PRECISIONS[kind]:
        raise ValueError(
            f"--format {text}: {kind} can be {', '.join(PRECISIONS[kind])}, not {precision}."
        )
    return kind, precision


def _name(model):
    path = Path(model).resolve()
    return path.stem if path.suffix == ".keras" else path.name


def _export(model, options, source, name, kind, precision):
    """Write one export and return where it is."""
    from keras_psp import export

    chosen = {
        "image_size": options.image_size and tuple(options.image_size),
        "input_dtype": options.input,
        "output": options.result,
        "preset": options.model if not Path(options.model).expanduser().exists() else None,
        "licence": options.licence,
    }
    if kind != "tflite":
        chosen["batch_size"] = options.batch_size
    elif options.batch_size not in (None, 1):
        raise ValueError(f"--batch-size {options.batch_size}: a TFLite file takes one image.")
    if not options.quiet:
        print(f"{kind} {precision} ...", file=sys.stderr)
    if kind == "tf_serving":
        return export.tf_serving(model, options.output / name, **chosen)
    if kind == "saved_model":
        path = options.output / f"{name}_saved_model"
        export.saved_model(model, path, **chosen)
        return path
    end = _SUFFIXES[kind]
    path = options.output / f"{name}{'' if precision == 'float32' else f'_{precision}'}{end}"
    chosen |= {"precision": precision, "progress": not options.quiet}
    if precision == "int8":
        from keras_psp.data import Split

        chosen["representative"] = Split(source, options.representative)
    getattr(export, kind)(model, path, **chosen)
    return path
