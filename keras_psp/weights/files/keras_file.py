"""Weights that Keras or numpy saved: .npz by Keras' names, .h5 of keras.applications."""

from pathlib import Path

import numpy as np

from keras_psp.weights.files.errors import WeightsFileError


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz file; no pickled objects."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def read_h5(path: str | Path) -> dict[str, np.ndarray]:
    """Weights of keras.applications' .h5 files, by "layer/variable"."""
    import h5py

    tensors = {}
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise WeightsFileError(
                "it is an HDF5 file but not one of keras.applications; a .weights.h5 goes into "
                "the model that wrote it by model.load_weights(path)."
            )

        def collect(name, item):
            if isinstance(item, h5py.Dataset):
                layer, variable = name.split("/")[-2:]
                tensors[f"{layer}/{variable.removesuffix(':0')}"] = np.asarray(item)

        root.visititems(collect)
    return tensors
