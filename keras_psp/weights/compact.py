"""Stores trained networks in a quarter of their size, for those bundled with the package."""

import json
import os
from typing import Any

import keras
import numpy as np

from keras_psp.files import local_path, read_npz, written_aside
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights.files import WeightsFileError

_FORMAT = 1


def save_compact(model: PSPNet, path: str | os.PathLike) -> None:
    """Saves a network to an .npz with its kernels in 8 bits; the rest is unchanged.

    Each filter is stored as integers from -127 to 127 and a scale. The network can be trained
    further, starting from the rounded kernels.
    """
    config = json.dumps({**model.get_config(), "frozen": []}).encode()
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "config": np.frombuffer(config, np.uint8),
    }
    for index, weight in enumerate(model.weights):
        values = keras.ops.convert_to_numpy(weight)
        if values.ndim == 4:
            kernel = np.float32(values)
            scale = np.abs(kernel).max(axis=(0, 1, 2)) / 127
            scale[scale == 0] = 1.0
            values, arrays[f"scale{index}"] = np.rint(kernel / scale).astype(np.int8), scale
        arrays[f"weight{index}"] = values
    with written_aside(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)


def open_compact(path: str | os.PathLike) -> PSPNet:
    """Opens a file written by `save_compact`."""
    path = local_path("path", path)
    try:
        arrays = read_npz(path)
        version = int(arrays["format"])
        if version > _FORMAT:
            raise WeightsFileError(f"{path} has format {version}, which needs a later keras_psp.")
        model = PSPNet.from_config(json.loads(arrays["config"].tobytes()))
        for index, weight in enumerate(model.weights):
            values = arrays[f"weight{index}"]
            if f"scale{index}" in arrays:
                values = np.float32(values) * arrays[f"scale{index}"]
            weight.assign(values)
    except WeightsFileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsFileError(
            f"{path} doesn't contain a network saved by save_compact ({error})."
        ) from error
    return model
