"""Reads weights saved by Keras or NumPy: .npz with Keras' names, .h5 of keras.applications."""

import zipfile
from pathlib import Path

import numpy as np

from keras_psp.weights.files.errors import WeightsFileError

# Weights hardly compress: a file that unpacks to much more than its size is malicious.
_UNPACKS_TO = 20


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file; refuses pickled objects."""
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(entry.file_size for entry in archive.infolist()))
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def read_h5(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the weights of keras.applications' .h5 files, by "layer/variable"."""
    import h5py

    datasets = {}
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise WeightsFileError(
                "it is an HDF5 file but not one of keras.applications; load a .weights.h5 into the "
                "model that wrote it with model.load_weights(path)."
            )

        def collect(name, item):
            if not isinstance(item, h5py.Dataset):
                return
            if item.external or item.is_virtual:
                raise WeightsFileError("it refers to data in other files, which isn't allowed.")
            layer, variable = name.split("/")[-2:]
            datasets[f"{layer}/{variable.removesuffix(':0')}"] = item

        root.visititems(collect)
        _check_size(path, sum(item.nbytes for item in datasets.values()))
        return {name: np.asarray(item) for name, item in datasets.items()}


def _check_size(path, unpacked):
    size = Path(path).stat().st_size
    if unpacked > _UNPACKS_TO * size + (1 << 20):
        raise WeightsFileError(
            f"its {size} bytes would unpack to {unpacked}, which no weights do; nothing was read."
        )
