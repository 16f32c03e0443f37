"""ImageNet weights of ResNets, by name: what `PSPNet(weights="imagenet")` loads."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_psp.layers.resnet import DilatedResNet
from keras_psp.weights import store
from keras_psp.weights.families import BACKBONES, recognized
from keras_psp.weights.families.imagenet import APPLICATIONS
from keras_psp.weights.files import WeightsFileError, read_checkpoint
from keras_psp.weights.locating import imagenet_source
from keras_psp.weights.transfer import BackboneWeights


def imagenet_weights(name: str, given: Mapping[str, Any]) -> BackboneWeights:
    """Fetches weights named by a key of `IMAGENET` for the backbone in a PSPNet's arguments."""
    backbone = given.get("backbone", "resnet50")
    if isinstance(backbone, DilatedResNet):
        depth = backbone.depth
    elif isinstance(backbone, str) and backbone.removeprefix("resnet").isdigit():
        depth = int(backbone.removeprefix("resnet"))
    else:
        raise ValueError(
            f"weights={name!r} are for ResNets; other backbones load their own, e.g. "
            "keras.applications.MobileNetV3Small(include_top=False, weights='imagenet')."
        )
    source = imagenet_source(name, depth)
    if source.startswith("https"):
        checkpoint = read_checkpoint(store.fetch(source))
        family = recognized(checkpoint.tensors, BACKBONES)
        if family is None:
            raise WeightsFileError(f"{checkpoint.path} doesn't contain a ResNet.")
        return BackboneWeights(family, checkpoint.tensors, name, given)
    make = getattr(keras.applications, source.rsplit(".", 1)[1])
    try:
        with store.bars_on_stderr():
            model = make(include_top=False)
    except Exception as error:  # Keras raises a bare Exception
        raise ConnectionError(
            f"can't fetch the weights of {source} ({store.reason(error)}); pass the path of its "
            ".h5 file as weights=, or 'imagenet_torchvision'."
        ) from error
    return BackboneWeights(APPLICATIONS, applications_tensors(model), name, given)


def applications_tensors(model: keras.Model) -> dict[str, Any]:
    """Returns the weights of a keras.applications model by "layer/variable"."""
    return {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
    }
