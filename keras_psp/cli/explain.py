"""`keras-psp explain`: draws which parts of a network's logits favor a class."""

import argparse
from pathlib import Path
from typing import Any

from keras_psp.cli.checks import check_model
from keras_psp.cli.protocol import add_base_size
from keras_psp.prediction.protocol import Protocol


def add(commands: Any) -> None:
    """Adds the subcommand to the parser."""
    explain = commands.add_parser(
        "explain",
        help="draw why pixels have their class: local features, or a level of the pyramid",
        description="Split the logits of an image into a sum of parts, one of the local features, "
        "one of each level of the pyramid and a constant, and draw one figure: the classes with "
        "and without the pyramid, one map per part, and the parts at one pixel, by default the "
        "one where the pyramid adds most.",
        epilog="""\
examples:
  keras-psp explain harbor.jpg --model runs/mine --classes boat car
  keras-psp explain street.jpg --model runs/mine --pixel 320 200 --reference photos/
""",
    )
    explain.add_argument("image", metavar="IMAGE", help="a file or a URL")
    explain.add_argument(
        "--model",
        help="see `keras-psp predict --help` [pspnet_r18-d8_128x128_scenes, which is bundled]",
    )
    explain.add_argument(
        "--pixel",
        nargs=2,
        type=int,
        metavar=("X", "Y"),
        help="column and row, from 0, of the pixel whose class is explained",
    )
    explain.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="one class, or two to explain why the first and not the second [the pixel's, and "
        "the one with the second highest logit, or the one without the pyramid]",
    )
    explain.add_argument(
        "--reference",
        nargs="+",
        metavar="IMAGE",
        help="images, e.g. a folder, whose mean replaces the levels of the pyramid to find the "
        "classes without it [the image itself]",
    )
    explain.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the figure [NAME_explanation.png in the current folder]",
    )
    explain.add_argument("--force", action="store_true", help="replace an existing figure")
    add_base_size(explain)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand; prints the parts at the pixel and where the figure is."""
    from PIL import Image

    from keras_psp.data.bands import read_any
    from keras_psp.prediction.inputs import find_inputs, is_single

    if options.classes and len(options.classes) > 2:
        raise ValueError(f"--classes has {len(options.classes)} names; give one or two.")
    if not is_single(options.image):
        raise ValueError(f"{options.image} is a folder or a pattern; give a single image.")
    (item,) = find_inputs(options.image)
    if item.path and not item.path.exists():
        raise FileNotFoundError(f"{item.path}: there is no such file.")
    output = options.output or Path(f"{item.stem}_explanation.png")
    if output.suffix and output.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--output {output} isn't the name of an image file; end it in .png.")
    if output.exists() and not options.force:
        raise FileExistsError(f"{output} exists; choose another --output, or --force.")
    check_model(options.model)
    references = list(find_inputs(options.reference)) if options.reference else []
    protocol: Any = {"base_size": options.base_size or None}
    Protocol(**protocol)
    from keras_psp.explanation import explain, level_means
    from keras_psp.explanation.result import class_index
    from keras_psp.models.classes import class_names_of
    from keras_psp.weights.opening import open_model

    model = open_model(options.model)
    if options.pixel:
        _check_pixel(options.pixel, read_any(item.source, model.input_channels))
    names = class_names_of(model)
    target, other = [*(class_index(names, name) for name in options.classes or ()), None, None][:2]
    reference: Any = "image"
    if references:
        sources = [reference.source for reference in references]
        reference = level_means(sources, options.model, **protocol)
    explanation = explain(options.image, options.model, reference=reference, **protocol)
    if options.pixel:
        x, y = options.pixel
        parts = explanation.pixel(x, y, target, other)
    else:
        parts = explanation.telling_pixel(target, other)
    place = parts.x, parts.y
    explanation.save(output, parts.target, parts.other, pixel=place, force=options.force)
    print(parts)
    print(explanation.context())
    print(output)
    return 0


def _check_pixel(pixel, image):
    height, width = image.shape[:2]
    for name, value, side in zip("XY", pixel, (width, height), strict=True):
        if not 0 <= value < side:
            raise ValueError(
                f"--pixel {pixel[0]} {pixel[1]}: {name} must be from 0 to {side - 1} in this "
                f"image of {width}x{height}."
            )
