"""`keras-psp upload`: publishes a network on a model hub, or saves it as a preset."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    upload = commands.add_parser(
        "upload",
        help="publish a network on Hugging Face or Kaggle",
        description="Publish a network on Hugging Face or Kaggle, with a model card about its "
        "data, classes and figures. Log in first, with `hf auth login` or kagglehub.login(). If "
        "it is interrupted, the hub keeps what it had; run the same command again.",
        epilog="""\
examples:
  keras-psp upload runs/mine hf://user/name --license apache-2.0
  keras-psp upload runs/mine kaggle://user/model/keras/variation --license mit
  keras-psp upload runs/mine presets/mine
  keras-psp predict photo.jpg --model hf://user/name
""",
    )
    upload.add_argument(
        "model", help="folder of a training run or of a preset, a .keras file, or a preset's name"
    )
    upload.add_argument(
        "destination",
        help="hf://USER/NAME, kaggle://USER/MODEL/keras/VARIATION, or a folder to save it in",
    )
    upload.add_argument("--license", help="license of the weights, e.g. apache-2.0")
    upload.add_argument("--dataset", help="what it was trained on [that of the training run]")
    upload.add_argument(
        "--weights-format", choices=("h5", "safetensors"), help="format of the weights [h5]"
    )
    upload.add_argument(
        "--private", action="store_true", help="make a new repository on Hugging Face private"
    )
    upload.add_argument(
        "--replace-card", action="store_true", help="replace the card that is on Hugging Face"
    )


def run(options: argparse.Namespace) -> int:
    """Uploads the network and prints the address of its page, or saves it and prints the folder."""
    from keras_psp.files import local_path
    from keras_psp.weights.hubs.addresses import hub_address
    from keras_psp.weights.locating import locate_model
    from keras_psp.weights.preset_folder import is_preset_folder

    located = locate_model(options.model)
    address = hub_address(options.destination)
    if address is None:
        for name in ("private", "replace_card"):
            if getattr(options, name):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} is for hubs, and {options.destination} is a folder.")
        local_path("destination", options.destination)  # raises for other addresses
    elif address.revision:
        raise ValueError(
            f"{options.destination}: an upload makes a new revision; leave out its name."
        )
    given = {"private": options.private, "replace_card": options.replace_card}
    if isinstance(located, Path) and located.is_dir() and is_preset_folder(located):
        if address is None:
            raise ValueError(f"{options.model} is a preset already; copy the folder.")
        for name in ("license", "dataset", "weights-format"):
            if getattr(options, name.replace("-", "_")):
                raise ValueError(
                    f"--{name}: {options.model} is a preset, which has it in its metadata.json; "
                    "save the network again to change it."
                )
        return _upload(address, located, given)
    from keras_psp.weights.facts import checked_license

    license = checked_license(options.license)
    if address is not None:
        from keras_psp.weights.hubs.uploading import check_upload

        check_upload(address, license)
    from keras_psp.weights.opening import open_model

    model = open_model(options.model)
    settings = {
        "license": license,
        "facts": _facts(options, located),
        "weights_format": options.weights_format or "h5",
    }
    if address is None:
        model.save_to_preset(options.destination, **settings)
        print(options.destination)
        return 0
    if license is None:
        print("no --license; the model card will say that it isn't stated", file=sys.stderr)
    from keras_psp.weights import store

    with store.workspace() as work:
        model.save_to_preset(work / "preset", **settings)
        return _upload(address, work / "preset", given)


def _upload(address, folder, given):
    from keras_psp.weights import upload_preset

    print(upload_preset(str(address), folder, **given))
    return 0


def _facts(options, located):
    """The facts of a training run or of a published preset."""
    from keras_psp.weights.presets import all_presets

    facts: dict[str, Any] = {}
    if isinstance(located, str) and located in all_presets():
        preset = all_presets()[located]
        facts = {"dataset": preset.dataset, "recipe": preset.name, "crop_size": preset.crop}
        if preset.mean_iou is not None:
            facts["mean_iou"] = preset.mean_iou / 100
    elif isinstance(located, Path) and (located.parent / "recipe.json").is_file():
        from keras_psp.training import run_facts

        if located.name == "best.keras" or Path(options.model).is_dir():
            facts = run_facts(located.parent)
    if options.dataset:
        facts["dataset"] = options.dataset
    return facts
