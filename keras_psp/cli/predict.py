"""`keras-psp predict`: writes the classes of images and videos into a folder."""

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from keras_psp.cli.checks import check_model, check_output
from keras_psp.cli.protocol import add_protocol, protocol_arguments

SOME_FAILED = 3
"""Exit status if some inputs have no results and the others have."""


def add(commands: Any) -> None:
    """Adds the subcommand to the parser."""
    predict = commands.add_parser(
        "predict",
        help="predict the classes of images and videos",
        description="Predict the classes of images and videos, and write overlays, class indices "
        "and a table into a folder. The same command resumes if interrupted. The exit status "
        f"is {SOME_FAILED} if some inputs could not be read (they are listed), 1 if none could.",
        epilog="""\
examples:
  keras-psp predict photo.jpg --model pspnet_r50-d8_512x512_160k_ade20k
  keras-psp predict ortho.tif --model runs/mine --crop 473
  keras-psp predict photos/ street.mp4 "more/*.png" --model runs/mine --output predictions
""",
    )
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a file, a folder (with subfolders), a pattern in quotes or an address; also videos",
    )
    predict.add_argument(
        "--model",
        help="a preset (name, e.g. pspnet_r50-d8_512x512_160k_ade20k, folder, or address hf://... "
        "or kaggle://...), a .keras file, or the folder of a training run "
        "[pspnet_r18-d8_128x128_scenes, which is bundled]",
    )
    predict.add_argument(
        "--output", type=Path, help="folder of the results [predictions, next to the first image]"
    )
    add_protocol(predict)
    predict.add_argument(
        "--probabilities", action="store_true", help="also write them, as float16: large files"
    )
    predict.add_argument(
        "--confidence",
        action="store_true",
        help="also write how sure each pixel's class is: probability, margin, entropy",
    )
    predict.add_argument(
        "--format", choices=("png", "jpg", "webp"), default="png", help="format of overlays [png]"
    )
    predict.add_argument(
        "--alpha", type=_opacity, default=0.5, metavar="X", help="opacity of the colors [0.5]"
    )
    predict.add_argument(
        "--max-megapixels",
        type=_megapixels,
        metavar="NUMBER",
        help="refuse larger images, and predict larger TIFFs from disk to disk, in windows of "
        "--crop [89.5]",
    )
    predict.add_argument(
        "--force", action="store_true", help="replace existing results, even with other settings"
    )


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand; prints where the results are and what failed."""
    protocol = protocol_arguments(options)
    from keras_psp.data.images import MAX_PIXELS
    from keras_psp.prediction.inputs import find_inputs

    output, limit = options.output or _beside(options.images[0]), options.max_megapixels
    check_model(options.model)
    check_output(output)
    inputs = list(find_inputs(options.images, without=output))  # raises if there are none
    paths = [item.path for item in inputs]
    if all(path and not path.exists() for path in paths):
        raise FileNotFoundError(f"{paths[0]}: there is no such file.")
    from keras_psp.prediction.files import predict_files

    # Pillow's warnings are repeated in our messages, with the file's name.
    warnings.filterwarnings("ignore", module="PIL")
    summary = predict_files(
        [item.source for item in inputs],
        output,
        options.model,
        **protocol,
        probabilities=options.probabilities,
        confidence=options.confidence,
        suffix=f".{options.format}",
        alpha=options.alpha,
        max_pixels=MAX_PIXELS if limit is None else int(1e6 * limit),
        force=options.force,
        progress=not options.quiet,
    )
    for _, reason in summary.failures:
        print(f"keras-psp: {reason}", file=sys.stderr)
    print(summary)
    if not summary.failures:
        return 0
    return SOME_FAILED if summary.done or summary.skipped else 1


def _beside(image):
    """The folder `predictions` next to a file or folder, or in the current folder."""
    path = Path(os.path.expanduser(image))
    return (path.parent if path.exists() else Path()) / "predictions"


def _opacity(text):
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} isn't from 0 to 1")
    return number


def _megapixels(text):
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} isn't a number of megapixels between 0 and 1e6")
    return number
