"""The options of a test protocol, for every command that predicts."""

import argparse
from typing import Any

from keras_psp.prediction.protocol import SIX_SCALES, Protocol


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Adds the fields of `Protocol` as options."""
    group = parser.add_argument_group("protocol")
    group.add_argument("--scales", type=float, nargs="+", help="image scales to average over [1]")
    group.add_argument("--flip", action="store_true", help="average with the mirror image")
    group.add_argument(
        "--multi-scale", action="store_true", help="the paper's six scales, with flip"
    )
    group.add_argument(
        "--crop", type=int, help="side of a sliding window, e.g. 473 [the whole image]"
    )
    group.add_argument("--overlap", type=float, default=1 / 3, help="overlap of windows [1/3]")
    add_base_size(group)
    group.add_argument("--batch-size", type=int, default=4, help="images or windows per batch [4]")


def add_base_size(group: Any) -> None:
    """Adds the field `base_size` to a parser or a group of its options, see `add_protocol`."""
    group.add_argument(
        "--base-size",
        metavar="N",
        type=_base_size,
        default="auto",
        help="longer side at scale 1; 0: the image's own [the size in training if the model "
        "records it, else the image's own]",
    )


def protocol_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `Protocol` that the options of `add_protocol` give, by name.

    Raises:
        ValueError: if one of them is out of range.
    """
    if options.multi_scale and options.scales:
        raise ValueError("--multi-scale sets the six scales and flip; leave out --scales.")
    fields: Any = {
        "scales": SIX_SCALES if options.multi_scale else tuple(options.scales or (1.0,)),
        "flip": options.flip or options.multi_scale,
        "crop": options.crop,
        "overlap": options.overlap,
        "base_size": options.base_size or None,
        "batch_size": options.batch_size,
    }
    Protocol(**fields)
    return fields


def _base_size(text):
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither auto nor a number of pixels"
        ) from None
