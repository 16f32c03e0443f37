"""Transfers trained weights to a new PSPNet: the arguments that they need, and the weights."""

import dataclasses
import functools
import re
import sys
from collections.abc import Mapping
from typing import Any

import keras

from keras_psp.arguments import checked_integer, checked_tuple
from keras_psp.imagenet import has_keras_model
from keras_psp.layers.backbone import DilatedBackbone, normalization_of
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.models.bands import adapted_kernel, with_input_channels
from keras_psp.models.named_backbones import model_name
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights.files.errors import naming
from keras_psp.weights.names import Family


@dataclasses.dataclass
class BackboneWeights:
    """ImageNet weights of a ResNet, for the backbone of a new PSPNet."""

    family: Family
    tensors: Mapping[str, Any]
    name: str  # in messages
    given: Mapping[str, Any]  # arguments that the user passed

    @functools.cached_property
    def architecture(self) -> dict[str, Any]:
        """Arguments of a `DilatedResNet` with the stages in the tensors."""
        return self.family.backbone_architecture(self.tensors)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the new PSPNet: the user's, and a backbone that fits the weights."""
        architecture = {"stride_in_1x1": False, **self.architecture, "num_stages": 4}
        backbone = self.given.get("backbone")
        if isinstance(backbone, DilatedResNet):
            _check_kind(self.name, backbone, architecture)
        else:
            if backbone not in (None, f"resnet{architecture['depth']}"):
                raise ValueError(
                    f"weights={self.name!r} are for resnet{architecture['depth']}, not for "
                    f"backbone={backbone!r}."
                )
            architecture |= {"dtype": self.given.get("dtype"), **_stride(self.given)}
            backbone = DilatedResNet(**architecture, name="backbone")
        network, channels = self.family.network, self.given.get("input_channels", 3)
        if network and channels != 3:
            network = normalization_of(network, channels)
        return {**network, **self.given, "backbone": backbone}

    def load(self, model: PSPNet) -> None:
        """Loads the weights into the backbone; reports stages without weights on stderr."""
        stages = self.architecture.get("num_stages", 4)
        used = self.family.up_to(self.tensors, model.backbone.num_stages)
        rgb = model.backbone
        if model.input_channels != 3:
            rgb = DilatedResNet.from_config(model.backbone.get_config())
            rgb.build((None, None, None, 3))
        with naming(self.name):
            self.family.load(rgb, used, stages=stages)
        if rgb is not model.backbone:
            bgr = self.family.network.get("channel_order") == "bgr"
            for variable, source in zip(model.backbone.weights, rgb.weights, strict=True):
                variable.assign(_fitting(source, variable, bgr))
        if stages < model.backbone.num_stages:
            print(
                f"{self.name}: weights up to conv{stages + 1}; later stages are newly initialized",
                file=sys.stderr,
            )


@dataclasses.dataclass
class NetworkWeights:
    """A trained PSPNet, whose weights are copied to a new one where they fit."""

    model: PSPNet
    name: str  # as in `BackboneWeights`
    given: Mapping[str, Any]
    dtype: str | None = None  # if the user passed none; None is Keras' global policy

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the new PSPNet: the user's, and the trained network's for the rest."""
        config = self.model.get_config()
        del config["frozen"], config["name"]
        given = dict(self.given)
        if given.get("num_classes", self.model.num_classes) != self.model.num_classes:
            config |= {"class_names": None, "palette": None, "temperature": 1.0}
        trained = self.model.backbone
        backbone = given.pop("backbone", None)
        if isinstance(backbone, str):
            if isinstance(trained, DilatedResNet):
                name = f"resnet{trained.depth}"
            else:
                name = trained.features.name
                if has_keras_model(backbone) and model_name(backbone) == name:
                    name = backbone
            if backbone != name:
                raise ValueError(
                    f"weights={self.name!r} have the backbone {name}, not {backbone}; omit "
                    "backbone, or choose other weights."
                )
            backbone = None
        elif isinstance(backbone, DilatedResNet) and isinstance(trained, DilatedResNet):
            _check_kind(self.name, backbone, trained.get_config())
        bins = checked_tuple(
            "bin_sizes", given.get("bin_sizes", self.model.bin_sizes), checked_integer
        )
        if bins != self.model.bin_sizes:
            raise ValueError(
                f"weights={self.name!r} were trained with bin_sizes={self.model.bin_sizes}, not "
                f"{bins}; give the same ones, or choose other weights."
            )
        config["dtype"] = dtype = given.get("dtype") or self.dtype
        channels = given.get("input_channels", self.model.input_channels)
        channels = checked_integer("input_channels", channels, least=1)
        if channels != self.model.input_channels:
            if self.model.input_channels != 3:
                raise ValueError(
                    f"weights={self.name!r} are for {self.model.input_channels} channels, not "
                    f"{channels}; only those for RGB are adapted to others."
                )
            config |= normalization_of(config, channels)
            config["input_shape"] = (*config["input_shape"][:2], channels)
        if backbone is None:
            options = trained.get_config()
            options |= {"dtype": dtype, "name": "backbone", "trainable": True}
            if isinstance(trained, DilatedBackbone):
                options["model"] = trained.features
                if channels != self.model.input_channels:
                    options["model"] = with_input_channels(
                        trained.features, channels, bgr=self._bgr
                    )
                self._check_stride(given, trained)
            backbone = type(trained)(**options | _stride(given))
        return {**config, **given, "backbone": backbone}

    def _check_stride(self, given, trained):
        """Raises ValueError for a larger output stride: dilation can be added, but not undone."""
        stride = given.get("output_stride")
        if stride in (16, 32) and stride > trained.output_stride:
            raise ValueError(
                f"weights={self.name!r} have output stride {trained.output_stride}, which can only "
                f"become smaller, not {stride}; omit output_stride, or give backbone="
                f"DilatedBackbone(model, output_stride={stride})."
            )

    @property
    def _bgr(self):
        return self.model.get_layer("normalization").channel_order == "bgr"

    def load(self, model: PSPNet) -> None:
        """Copies the weights; reports on stderr which layers are newly initialized."""
        new_layers: list[str] = []
        for part in ("backbone", "pyramid_pooling", "classifier", "auxiliary_head"):
            new, trained = weights_by_path(model, part), weights_by_path(self.model, part)
            if new and not trained:
                new_layers.append(part)
                continue
            for path, variable in new.items():
                source = trained.get(path)
                if source is not None and part == "backbone":
                    source = _fitting(source, variable, self._bgr)
                if source is not None and source.shape == variable.shape:
                    variable.assign(source)
                elif "classifier" in (part, path.split("/")[0]):
                    new_layers.append(f"{part}/{path}".rpartition("/")[0])
                else:
                    shape = "none" if source is None else f"{tuple(source.shape)}"
                    raise ValueError(
                        f"weights={self.name!r} don't fit: {part}/{path} needs "
                        f"{tuple(variable.shape)}, they have {shape}; leave out the arguments "
                        "that change the network's shape."
                    )
            if surplus := trained.keys() - new.keys() if new else ():
                raise ValueError(
                    f"weights={self.name!r} don't fit: they have {part}/{min(surplus)}, and the "
                    "network doesn't; leave out the arguments that change its layers."
                )
        if new_layers:
            print(
                f"{self.name}: all weights loaded except {', '.join(dict.fromkeys(new_layers))}, "
                f"which are newly initialized for {model.num_classes} classes",
                file=sys.stderr,
            )


def _check_kind(name, backbone, needed):
    """Raises ValueError if a ResNet differs from that of the weights in what shapes don't show."""
    for key in ("depth", "stem_filters", "stride_in_1x1"):
        if getattr(backbone, key) != needed[key]:
            raise ValueError(
                f"weights={name!r} need DilatedResNet({key}={needed[key]!r}), not "
                f"{getattr(backbone, key)!r}."
            )


def _fitting(source, variable, bgr):
    """Returns a variable's source; for the first convolution, adapted to the new channels."""
    old, new = tuple(source.shape), tuple(variable.shape)
    if old == new or len(old) != 4 or old[2] != 3 or (*old[:2], old[3]) != (*new[:2], new[3]):
        return source
    return adapted_kernel(keras.ops.convert_to_numpy(source), new[2], bgr=bgr)


def _stride(given):
    stride = given.get("output_stride")
    return {} if stride is None else {"output_stride": stride}


def weights_by_path(model: PSPNet, part: str) -> dict[str, Any]:
    """Returns the variables of one layer of a network by their path inside it."""
    if part not in [layer.name for layer in model.layers]:
        return {}
    variables: dict[str, Any] = {}
    for variable in model.get_layer(part).weights:
        path = variable.path.rpartition(f"{part}/")[2]
        # Keras numbers variables without a name (ConvNeXt's), differently in each model.
        path = re.sub("/variable_[0-9]+$", "/variable", path)
        # Two variables inside a DilatedBackbone's model may have the same path.
        while path in variables:
            path += "'"
        variables[path] = variable
    return variables
