"""Weights of a network as a file: Keras' own .weights.h5, or safetensors."""

import warnings
from pathlib import Path

import keras
import numpy as np

from keras_psp.models.pspnet import PSPNet
from keras_psp.weights.files import read_checkpoint
from keras_psp.weights.files.errors import WeightsFileError, naming, printable
from keras_psp.weights.transfer import weights_by_path

# More groups than any network has: a file with cycles of links has no end.
_MOST_OBJECTS = 200_000


def save_variables(model: PSPNet, path: Path) -> None:
    """Writes the weights to a file whose name ends in .weights.h5 or .safetensors."""
    if path.suffix != ".safetensors":
        model.save_weights(path)
        return
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise ImportError(
            'safetensors files need a package: pip install "keras-psp[safetensors]".'
        ) from error
    save_file({name: _array(variable) for name, variable in _by_name(model).items()}, path)


def load_variables(model: PSPNet, path: Path, name: str) -> None:
    """Loads a file written by `save_variables`; `name` is what messages call it.

    Raises:
        WeightsFileError: if it is damaged or refers to other files, or if its weights aren't
            exactly those of this network.
    """
    with naming(name):
        if path.suffix == ".safetensors":
            _load_tensors(model, read_checkpoint(path).tensors)
            return
        _check_h5(path, sum(4 * int(np.prod(weight.shape)) for weight in model.weights))
        load_h5(model, path, "config.json")


def load_h5(model: keras.Model, path: Path, network: str) -> None:
    """Loads all weights of a model from a file of Keras.

    Raises:
        WeightsFileError: if they aren't those of the model, which is called `network`; then it is
            unusable.
    """
    # Keras leaves weights as they are, with a warning each, if it finds no group for them.
    for weight in model.weights:
        weight.assign(keras.ops.full(weight.shape, np.nan, weight.dtype))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_weights(path)
    except Exception as error:  # Keras raises errors of many types, pages long
        first = printable(str(error).strip().split("\n")[0])
        raise WeightsFileError(f"its weights aren't those of {network} ({first}).") from error
    for weight in model.weights:
        if np.isnan(_array(weight)).all():
            raise WeightsFileError(f"it lacks weights of {weight.path}, or they are NaN.")


def _array(variable):
    array = keras.ops.convert_to_numpy(variable)
    # NumPy has no bfloat16 of its own.
    return array if array.dtype.kind in "iuf" else np.asarray(array, np.float32)


def _by_name(model):
    """Variables by "layer/path inside it"."""
    return {
        f"{layer.name}/{path}": variable
        for layer in model.layers
        for path, variable in weights_by_path(model, layer.name).items()
    }


def _load_tensors(model, tensors):
    variables = _by_name(model)
    for kind, names in (
        ("lacks", variables.keys() - tensors.keys()),
        ("has in addition", tensors.keys() - variables.keys()),
    ):
        if names:
            raise WeightsFileError(f"it {kind} {printable(min(names))}; nothing was loaded.")
    for key, variable in variables.items():
        if tuple(tensors[key].shape) != tuple(variable.shape):
            raise WeightsFileError(
                f"{printable(key)} has shape {tuple(tensors[key].shape)}; the network needs "
                f"{tuple(variable.shape)}."
            )
    for key, variable in variables.items():
        variable.assign(tensors[key])


def _check_h5(path, size):
    """Raises WeightsFileError for links to other files, and for data larger than a network's."""
    import h5py

    objects = total = 0

    def visit(group):
        nonlocal objects, total
        for key in group:
            objects += 1
            if objects > _MOST_OBJECTS:
                raise WeightsFileError("it contains more groups than a network has.")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsFileError("it refers to other files or groups, which isn't allowed.")
            item = group[key]
            if isinstance(item, h5py.Group):
                visit(item)
            elif item.external or item.is_virtual:
                raise WeightsFileError("it refers to data in other files, which isn't allowed.")
            else:
                total += item.nbytes
                if total > 4 * size + (1 << 20):
                    raise WeightsFileError(
                        "it has more data than the weights of the network in config.json."
                    )

    with h5py.File(path, "r") as file:
        visit(file)
