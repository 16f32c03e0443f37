"""Uploads presets to hubs."""

import os
import shutil

from keras_psp.files import local_path
from keras_psp.weights import preset_folder, store
from keras_psp.weights.hubs import huggingface, kaggle
from keras_psp.weights.hubs.addresses import HubAddress, hub_address

_MESSAGE = "Upload a PSPNet of keras_psp"


def check_upload(address: HubAddress, license: str | None) -> None:
    """Raises ImportError or ValueError if an upload can't succeed, before any work is done.

    The hub's library may be missing, or Kaggle may not know the license.
    """
    {"hf": huggingface, "kaggle": kaggle}[address.scheme].check_upload(address, license)


def upload_preset(
    uri: str,
    folder: str | os.PathLike,
    *,
    private: bool = False,
    replace_card: bool = False,
) -> str:
    """Uploads the folder of a preset to Hugging Face or Kaggle.

    The folder is one written by `PSPNet.save_to_preset`. It is verified first, and no other files
    in it are uploaded. Hugging Face gets one commit and Kaggle one version, created after all
    files have arrived: if the upload is interrupted, the hub keeps what it had, and the same call
    completes it. Log in with the hub's own tools (`hf auth login`, `kagglehub.login()`).

    Args:
        uri: "hf://user/name" or "kaggle://user/model/keras/variation", which is created if it
            doesn't exist.
        folder: the folder of the preset.
        private: whether a new repository on Hugging Face is private. New models on Kaggle are
            always private until you publish them there.
        replace_card: whether to replace the card of an existing repository on Hugging Face,
            which you may have edited. On Kaggle, each version has its own card.

    Returns:
        The address of the preset's page.

    Raises:
        ValueError: if the address or the folder is wrong; otherwise as `from_preset`.

    Example:
        model.save_to_preset("mine", license="apache-2.0")
        keras_psp.upload_preset("hf://user/name", "mine")
    """
    address = hub_address(uri)
    if address is None:
        raise ValueError(
            f"uri is {uri!r}; give hf://USER/NAME or kaggle://USER/MODEL/keras/VARIATION."
        )
    if address.revision:
        raise ValueError(f"uri is {uri!r}; uploads make a new revision, so leave out its name.")
    path = local_path("folder", folder)
    if not path.is_dir():
        raise FileNotFoundError(f"folder {str(path)!r} doesn't exist; save_to_preset writes one.")
    metadata = preset_folder.read_metadata(path)
    check_upload(address, metadata.get("license"))
    with store.workspace() as work:
        copy = work / "preset"
        copy.mkdir()
        files = [*preset_folder.listed_files(metadata), preset_folder.METADATA]
        for file in files:
            if (path / file).is_file():  # otherwise `verify` reports what is missing
                shutil.copyfile(path / file, copy / file)
        preset_folder.verify(copy, preset_folder.read_metadata(copy, str(path)), str(path))
        if (path / preset_folder.CARD).is_file():
            try:
                text = (path / preset_folder.CARD).read_text("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path / preset_folder.CARD} isn't UTF-8, as hubs require; save it as UTF-8."
                ) from error
            card = text.replace(preset_folder.PLACE, str(address))
            (copy / preset_folder.CARD).write_text(card, "utf-8", newline="\n")
        if address.scheme == "hf":
            return huggingface.upload(
                address, copy, message=_MESSAGE, private=private, replace_card=replace_card
            )
        return kaggle.upload(address, copy, message=_MESSAGE, license=metadata.get("license"))
