"""ImageNet weights of ResNets, by name: what `PSPNet(weights="imagenet")` loads."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_psp.layers.resnet import DilatedResNet
from keras_psp.weights import store
from keras_psp.weights.families import BACKBONES, recognized
from keras_psp.weights.families.imagenet import APPLICATIONS
from keras_psp.weights.files import WeightsFileError, read_checkpoint
from keras_psp.weights.transfer import BackboneWeights

_TORCHVISION = "https://download.pytorch.org/models/"
_OPENMMLAB = "https://download.openmmlab.com/pretrain/third_party/"
# Sources by name and depth: torchvision/models/resnet.py (the second version where there
# are two) and mmcv/model_zoo/open_mmlab.json.
IMAGENET = {
    "imagenet": {
        18: _TORCHVISION + "resnet18-f37072fd.pth",
        34: _TORCHVISION + "resnet34-b627a593.pth",
        50: "keras.applications.ResNet50",
        101: "keras.applications.ResNet101",
        152: "keras.applications.ResNet152",
    },
    "imagenet_torchvision": {
        18: _TORCHVISION + "resnet18-f37072fd.pth",
        34: _TORCHVISION + "resnet34-b627a593.pth",
        50: _TORCHVISION + "resnet50-11ad3fa6.pth",
        101: _TORCHVISION + "resnet101-cd907fc2.pth",
        152: _TORCHVISION + "resnet152-f82ba261.pth",
    },
    "imagenet_mmsegmentation": {
        18: _OPENMMLAB + "resnet18_v1c-b5776b93.pth",
        50: _OPENMMLAB + "resnet50_v1c-2cccc1ad.pth",
        101: _OPENMMLAB + "resnet101_v1c-e67eebb6.pth",
    },
}


def imagenet_source(name: str, depth: int) -> str:
    """Returns the URL or keras.applications model with the weights of one depth.

    Raises:
        ValueError: if there are no weights of this depth.
    """
    sources = IMAGENET[name]
    if depth not in sources:
        raise ValueError(
            f"weights={name!r} exist for depths {', '.join(map(str, sources))}, not {depth}; "
            "pass the path of a checkpoint, or None for random weights."
        )
    return sources[depth]


def imagenet_weights(name: str, given: Mapping[str, Any]) -> BackboneWeights:
    """Fetches the ImageNet weights for the backbone in a PSPNet's arguments.

    Args:
        name: a key of `IMAGENET`.
        given: the arguments that the user passed to `PSPNet`.

    Raises:
        ValueError: if the backbone isn't a ResNet, or of a depth without weights.
        ConnectionError: if they can't be fetched.
    """
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
