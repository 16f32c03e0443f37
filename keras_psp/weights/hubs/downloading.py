"""Fetches presets from hubs."""

from pathlib import Path

from keras_psp.weights.hubs import huggingface, kaggle
from keras_psp.weights.hubs.addresses import HubAddress


def download(address: HubAddress) -> Path:
    """Returns the local folder of a preset, after fetching the files that it lacks.

    Its contents aren't verified yet; `keras_psp.weights.saving.open_preset_folder` does so.

    Raises:
        ImportError: if the hub's library isn't installed; the message names the extra.
        FileNotFoundError: if there is no such repository, model or version.
        PermissionError: if it is private or gated, and nobody with access is logged in.
        ConnectionError: if the hub can't be reached.
        WeightsFileError: if it isn't a preset of this package.
    """
    return {"hf": huggingface, "kaggle": kaggle}[address.scheme].download(address)
