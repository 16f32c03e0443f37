"""`keras-psp presets`, `fetch` and `convert`: lists, downloads and converts weights."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Adds the three subcommands."""
    presets = commands.add_parser(
        "presets",
        help="list the trained networks",
        description="List the trained networks, with their data set and mean IoU. Other commands "
        "take their names, e.g. as --model.",
        epilog="""\
examples:
  keras-psp presets --dataset cityscapes
""",
    )
    presets.add_argument("--dataset", help="list only networks of one data set, e.g. ade20k")

    fetch = commands.add_parser(
        "fetch",
        help="download and convert trained networks before use",
        description="Download and convert trained networks now, so that later commands don't need "
        "the internet. Without this, a network is downloaded when it is first used.",
        epilog="""\
examples:
  keras-psp fetch pspnet_r50-d8_512x512_160k_ade20k
  keras-psp fetch hf://user/name
""",
    )
    fetch.add_argument(
        "presets",
        nargs="+",
        metavar="PRESET",
        help="name of a preset, hf://USER/NAME, or kaggle://USER/MODEL/keras/VARIATION",
    )

    convert = commands.add_parser(
        "convert",
        help="convert a checkpoint of another project to a .keras file",
        description="Convert a PSPNet that another project trained to a .keras file, which other "
        "commands take as --model.",
        epilog="""\
examples:
  keras-psp convert iter_80000.pth
  keras-psp convert encoder_epoch_20.pth decoder_epoch_20.pth --output csail.keras
""",
    )
    convert.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="file, or all files, of the checkpoint"
    )
    convert.add_argument(
        "--output", type=Path, help="file to write [name of the file, with the suffix .keras]"
    )
    convert.add_argument(
        "--align-corners",
        choices=("true", "false"),
        help="how the network resizes; needed if the file doesn't contain this",
    )
    convert.add_argument(
        "--output-stride",
        type=int,
        choices=(8, 16, 32),
        help="output stride of the network [the one it was trained with]",
    )
    convert.add_argument("--force", action="store_true", help="replace an existing file")


def run_presets(options: argparse.Namespace) -> int:
    """Prints the table of presets."""
    from keras_psp.weights import list_presets

    print(list_presets(options.dataset))
    return 0


def run_fetch(options: argparse.Namespace) -> int:
    """Downloads and converts presets."""
    from keras_psp.weights.hubs.addresses import hub_address
    from keras_psp.weights.presets import find_preset

    addresses = {name: hub_address(name) for name in options.presets}
    for name, address in addresses.items():
        if address is None:
            find_preset(name)  # raises for a wrong name before the first download
    for name, address in addresses.items():
        if address is not None:
            from keras_psp.weights.hubs.downloading import download
            from keras_psp.weights.preset_folder import read_metadata, verify

            folder = download(address)
            verify(folder, read_metadata(folder, name), name)
        else:
            from keras_psp.weights.published import open_preset

            open_preset(name)
        print(f"{name} is ready", file=sys.stderr)
    return 0


def run_convert(options: argparse.Namespace) -> int:
    """Converts a checkpoint and prints the path of the `.keras` file."""
    from keras_psp.files import sweep, written_aside

    if given := [file for file in options.files if file.suffix == ".keras"]:
        raise ValueError(
            f"{given[0]} is a .keras file already; every command takes it as --model, and "
            "keras_psp.PSPNet(weights=...) as well."
        )
    output = options.output or Path(options.files[0].resolve()).with_suffix(".keras")
    if output.suffix != ".keras":
        raise ValueError(f"--output {output}: the name must end in .keras.")
    if any(output.resolve() == file.resolve() for file in options.files):
        raise ValueError(f"--output {output} is the file to convert; choose another name.")
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder; give the name of a file.")
    if output.exists() and not options.force:
        raise ValueError(f"{output} exists; choose another --output, or use --force to replace it.")
    for file in options.files:
        if not file.exists():
            raise FileNotFoundError(f"{file} doesn't exist; pass the path of a weights file.")
    from keras_psp.weights import convert

    settings = {}
    if options.align_corners:
        settings["align_corners"] = options.align_corners == "true"
    if options.output_stride:
        settings["output_stride"] = options.output_stride
    sweep(output)
    with written_aside(output) as draft:  # refuses what can't be written before the work
        convert(options.files, **settings).save(draft)
    print(output)
    return 0
