"""What `PSPNet(weights=...)` may be, and what of it fits."""

import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.models.pspnet import PresetName, PSPNet
from keras_psp.weights import store
from keras_psp.weights.conversion import completed, convert, convert_checkpoint
from keras_psp.weights.families import BACKBONES, recognized
from keras_psp.weights.families.imagenet import APPLICATIONS
from keras_psp.weights.files import WeightsFileError, file_format, read_checkpoint
from keras_psp.weights.files.errors import naming
from keras_psp.weights.names import Family
from keras_psp.weights.presets import find_preset, open_preset, preset_names

_TORCHVISION = "https://download.pytorch.org/models/"
_OPENMMLAB = "https://download.openmmlab.com/pretrain/third_party/"
# ImageNet weights by name and depth. torchvision/models/resnet.py (the second version
# where there are two); mmcv/model_zoo/open_mmlab.json.
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


def open_weights(weights: Any, given: Mapping[str, Any]) -> "WholeNetwork | Backbone":
    """The source of trained weights for a PSPNet that was asked for with these arguments.

    Raises:
        ValueError: for a name that means nothing, or a backbone that can't have them.
        FileNotFoundError, ConnectionError, WeightsFileError: as reading the file does.
    """
    if isinstance(weights, PSPNet):
        return WholeNetwork(weights, weights.name, given, weights.get_config()["dtype"])
    if isinstance(weights, list | tuple):  # an encoder's and a decoder's file
        model = convert(weights, verbose=False)
        return WholeNetwork(model, Path(weights[0]).name, given)
    name = str(weights)
    if not name:
        raise ValueError("weights='' is empty; None is for random weights.")
    if name in preset_names() or isinstance(weights, PresetName):
        return WholeNetwork(open_preset(name), name, given)
    if name in IMAGENET:
        return _imagenet(name, given)
    path = Path(name).expanduser()
    if not path.exists():
        if path.suffix or path.parent != Path("."):
            raise FileNotFoundError(f"weights={name!r}: there is no such file.")
        try:
            find_preset(name)
        except ValueError as error:
            raise ValueError(
                f"weights={name!r} is neither a file nor one of {', '.join(IMAGENET)}, and {error}"
            ) from None
    if path.is_dir():
        return WholeNetwork(convert(path, verbose=False), path.name, given)
    if file_format(path) == "keras":
        model = convert(path, verbose=False)
        return WholeNetwork(model, path.name, given, model.get_config()["dtype"])
    checkpoint = completed(read_checkpoint(path))
    family = recognized(checkpoint.tensors, BACKBONES)
    # A semantic segmentation network has the names of a backbone and more.
    if family is None or recognized(checkpoint.tensors) is not family:
        model = convert_checkpoint(checkpoint, verbose=False)
        return WholeNetwork(model, path.name, given)
    return Backbone(family, checkpoint.tensors, path.name, given)


def imagenet_address(name: str, depth: int) -> str:
    """Where ImageNet weights of a ResNet are.

    Raises:
        ValueError: there are none of this depth.
    """
    addresses = IMAGENET[name]
    if depth not in addresses:
        raise ValueError(
            f"weights={name!r} exist for depths {', '.join(map(str, addresses))}, not {depth}; "
            "give the path of a checkpoint, or None to start at random."
        )
    return addresses[depth]


def _imagenet(name, given):
    asked = given.get("backbone", "resnet50")
    if isinstance(asked, DilatedResNet):
        depth = asked.depth
    elif isinstance(asked, str) and asked.removeprefix("resnet").isdigit():
        depth = int(asked.removeprefix("resnet"))
    else:
        raise ValueError(
            f"weights={name!r} are a ResNet's; a backbone of another kind brings its own, as "
            "keras.applications.MobileNetV3Small(include_top=False, weights='imagenet')."
        )
    address = imagenet_address(name, depth)
    if address.startswith("https"):
        checkpoint = read_checkpoint(store.fetched(address))
        family = recognized(checkpoint.tensors, BACKBONES)
        if family is None:
            raise WeightsFileError(f"{checkpoint.path} holds no ResNet that is known here.")
        return Backbone(family, checkpoint.tensors, name, given)
    make = getattr(keras.applications, address.rsplit(".", 1)[1])
    try:
        model = make(include_top=False)
    except Exception as error:  # Keras raises a bare Exception
        raise ConnectionError(
            f"can't fetch the weights of {address} ({store.reason(error)}); give the path of its "
            ".h5 file as weights=, or 'imagenet_torchvision'."
        ) from error
    return Backbone(APPLICATIONS, applications_tensors(model), name, given)


def applications_tensors(model: keras.Model) -> dict[str, Any]:
    """The weights of a model of keras.applications by "layer/variable"."""
    return {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
    }


@dataclasses.dataclass
class Backbone:
    """ImageNet weights of a ResNet.

    Attributes:
        family, tensors: the table and what it names.
        name: for messages.
        given: what the user asked of the PSPNet.
    """

    family: Family
    tensors: Mapping[str, Any]
    name: str
    given: Mapping[str, Any]

    @functools.cached_property
    def architecture(self) -> dict[str, Any]:
        """Arguments of a `DilatedResNet` of the tensors' own stages."""
        return self.family.backbone_architecture(self.tensors)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the PSPNet: the user's, and a backbone that can hold the weights."""
        architecture = {"stride_in_1x1": False, **self.architecture, "num_stages": 4}
        asked = self.given.get("backbone")
        if isinstance(asked, DilatedResNet):
            fixed = ("depth", "stem_filters", "stride_in_1x1")
            has = {key: getattr(asked, key) for key in fixed}
            needs = {key: architecture[key] for key in fixed}
            if has != needs:
                key = next(key for key in fixed if has[key] != needs[key])
                raise ValueError(
                    f"weights={self.name!r} need DilatedResNet({key}={needs[key]!r}), not "
                    f"{has[key]!r}."
                )
            backbone = asked
        else:
            if asked is not None and asked != f"resnet{architecture['depth']}":
                raise ValueError(
                    f"weights={self.name!r} are a ResNet-{architecture['depth']}'s, not "
                    f"those of backbone={asked!r}."
                )
            dtype = self.given.get("dtype")
            backbone = DilatedResNet(**architecture, dtype=dtype, name="backbone")
        return {**self.family.network, **self.given, "backbone": backbone}

    def load(self, model: PSPNet) -> None:
        """Give the backbone its weights; say if they don't reach to its end."""
        stages = self.architecture.get("num_stages", 4)
        used = self.family.up_to(self.tensors, model.backbone.num_stages)
        with naming(self.name):
            self.family.load(model.backbone, used, stages=stages)
        if stages < model.backbone.num_stages:
            print(
                f"{self.name}: weights up to conv{stages + 1}; the stages after it start anew",
                file=sys.stderr,
            )


@dataclasses.dataclass
class WholeNetwork:
    """A trained PSPNet, of which a new one takes what fits.

    Attributes:
        model: the trained one.
        name: for messages.
        given: what the user asked of the new one.
        dtype: the new one's precision where the user asked for none; None is Keras'
            global one.
    """

    model: PSPNet
    name: str
    given: Mapping[str, Any]
    dtype: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the new PSPNet: the user's, and the trained one's for the rest."""
        config = self.model.get_config()
        config.pop("frozen")
        config.pop("name")
        given = dict(self.given)
        if given.get("num_classes", self.model.num_classes) != self.model.num_classes:
            config |= {"class_names": None, "palette": None}
        asked = given.pop("backbone", None)
        if isinstance(asked, str):
            depth = getattr(self.model.backbone, "depth", None)
            if asked != f"resnet{depth}":
                raise ValueError(
                    f"weights={self.name!r} have the backbone resnet{depth}; leave out "
                    f"backbone={asked!r}, or choose other weights."
                )
            asked = None
        bins = given.get("bin_sizes", self.model.bin_sizes)
        if tuple(bins) != self.model.bin_sizes:
            raise ValueError(
                f"weights={self.name!r} were trained with bin_sizes={self.model.bin_sizes}, not "
                f"{tuple(bins)}; leave bin_sizes to the weights."
            )
        config["dtype"] = dtype = given.get("dtype") or self.dtype
        if asked is None:
            own = self.model.backbone
            options = {**own.get_config(), "dtype": dtype, "name": "backbone", "trainable": True}
            if isinstance(own, DilatedBackbone):
                options["model"] = own.features
            asked = type(own)(**options)
        return {**config, **given, "backbone": asked}

    def load(self, model: PSPNet) -> None:
        """Copy every weight of the same place and shape; say which start anew."""
        anew = []
        for part in ("backbone", "pyramid_pooling", "classifier", "auxiliary_head"):
            new, old = _weights(model, part), _weights(self.model, part)
            if new and not old:
                anew.append(part)
                continue
            for path, variable in new.items():
                donor = old.get(path)
                if donor is not None and donor.shape == variable.shape:
                    variable.assign(donor)
                elif "classifier" in (part, path.split("/")[0]):
                    anew.append(f"{part}/{path}")
                else:
                    held = "none" if donor is None else f"{tuple(donor.shape)}"
                    raise ValueError(
                        f"weights={self.name!r} don't fit: {part}/{path} needs "
                        f"{tuple(variable.shape)}, they have {held}; leave the arguments of the "
                        "network's shape to the weights."
                    )
        if anew:
            names = dict.fromkeys(path.rsplit("/", 1)[0] for path in anew)
            print(
                f"{self.name}: taken over but for {', '.join(names)}, which "
                f"start anew with {model.num_classes} classes",
                file=sys.stderr,
            )


def _weights(model, part):
    """Variables of one part by their path inside it."""
    names = [layer.name for layer in model.layers]
    if part not in names:
        return {}
    # Those of a model inside a DilatedBackbone have paths of their own.
    variables: dict[str, Any] = {}
    for variable in model.get_layer(part).weights:
        path = variable.path.rpartition(f"{part}/")[2]
        while path in variables:
            path += "'"
        variables[path] = variable
    return variables


DEFAULT_MODEL = "pspnet_r18-d8_128x128_scenes"
"""What comes with the package and needs no network."""


_PHOTOGRAPHS = "pspnet_r50-d8_512x512_160k_ade20k"


def chosen_model(model: Any) -> Any:
    """The model that is asked for; where that is None, what comes with the package, and says so."""
    if model is None:
        _say_which()
        return DEFAULT_MODEL
    return model


def open_model(model: Any) -> PSPNet:
    """The network that is meant; see `predict`.

    Raises:
        ValueError: there is no such preset, or the folder is no training's.
        FileNotFoundError: there is no such file.
        TypeError: for another object.
    """
    if isinstance(model, PSPNet):
        return model
    model = chosen_model(model)
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model is an object of type {type(model).__name__}; it must be a PSPNet, a preset's "
            "name, a file or the folder of a training."
        )
    path = Path(model).expanduser()
    if path.is_dir():
        found = [path / name for name in ("best.keras", "last.keras") if (path / name).is_file()]
        if not found:
            raise ValueError(
                f"{model}: neither best.keras nor last.keras is in this folder; give that of a "
                "training that has validated once, or a file."
            )
        path = found[0]
    if path.is_file():
        return _opened(str(path), path.stat().st_mtime_ns)
    if path.suffix or path.parent != Path("."):
        # A preset's name may hold neither.
        raise FileNotFoundError(f"model {str(model)!r}: there is no such file or folder.")
    return _opened(str(model), None)


@functools.cache
def _say_which():
    print(
        f"model: {DEFAULT_MODEL}, which comes with keras_psp and knows generated scenes only; for "
        f"photographs give a preset that is fetched once, as {_PHOTOGRAPHS}",
        file=sys.stderr,
    )


@functools.lru_cache(maxsize=1)
def _opened(name, modified):
    from keras_psp.weights import convert

    return PSPNet.from_preset(name) if modified is None else convert(name, verbose=False)


def _without_training(config):
    """A configuration, at any depth, without what says which layers are frozen."""
    if isinstance(config, list | tuple):
        return [_without_training(value) for value in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _without_training(value)
        for key, value in config.items()
        if key not in ("frozen", "trainable")
    }


def digest(model: PSPNet) -> str:
    """Sixteen hexadecimal digits that tell a network from one with other weights or settings.

    Such are its dtype policy, its mean and std, `align_corners` or the classes' colours; its name
    and what of it is frozen change no result.
    """
    config = {key: value for key, value in model.get_config().items() if key != "name"}
    settings = [_without_training(config), model.dtype_policy.name]
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for weight in model.weights:
        found.update(np.ascontiguousarray(np.asarray(weight)).tobytes())
    return found.hexdigest()[:16]
