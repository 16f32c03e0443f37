"""`keras-psp predict`: photographs and videos to pictures of their classes."""

import argparse
import sys
import warnings
from pathlib import Path

from keras_psp.cli.protocol import add_protocol, protocol_arguments

SOME_FAILED = 3
"""The exit status where some photographs have no results and the others have."""


def add(commands) -> None:
    """Add the command to the parser's."""
    predict = commands.add_parser(
        "predict",
        help="find the classes in photographs and videos",
        description="Find the classes in photographs and videos, and write overlays, class "
        "indices and a table into a folder. The same command again goes on where it was stopped. "
        f"The exit status is {SOME_FAILED} where some could not be read; they are named.",
    )
    predict.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="a file, a folder with all below it, a pattern in quotes, an address; videos too",
    )
    predict.add_argument(
        "--model",
        help="a preset's name, as pspnet_r50-d8_512x512_160k_ade20k, a .keras file or the folder "
        "of a training [pspnet_r18-d8_128x128_scenes, which needs no network]",
    )
    predict.add_argument("--output", type=Path, required=True, help="folder of the results")
    add_protocol(predict)
    predict.add_argument(
        "--probabilities", action="store_true", help="write them too, as float16: large files"
    )
    predict.add_argument(
        "--format", choices=("png", "jpg", "webp"), default="png", help="of the overlays [png]"
    )
    predict.add_argument("--alpha", type=float, default=0.5, help="share of the colours [0.5]")
    predict.add_argument(
        "--max-megapixels", type=float, help="larger photographs are refused [89.5]"
    )
    predict.add_argument(
        "--force",
        action="store_true",
        help="replace results that are there, also of other settings",
    )
    predict.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> int:
    """Predict, and say where the results are and what failed."""
    protocol = protocol_arguments(options)
    from keras_psp.data.images import MAX_PIXELS
    from keras_psp.prediction.files import predict_files

    most = options.max_megapixels
    # What Pillow warns of is told with the file's name.
    warnings.filterwarnings("ignore", module="PIL")
    summary = predict_files(
        options.photos,
        options.output,
        options.model,
        **protocol,
        probabilities=options.probabilities,
        suffix=f".{options.format}",
        alpha=options.alpha,
        max_pixels=MAX_PIXELS if most is None else int(1e6 * most),
        force=options.force,
        progress=not options.quiet,
    )
    for _, reason in summary.failures:
        print(f"keras-psp: {reason}", file=sys.stderr)
    print(summary)
    return SOME_FAILED if summary.failures else 0
