"""Converts the PSPNet checkpoints of other projects to `keras_psp.PSPNet`."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.files import local_path
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.models.checks import check_weights
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights.families import BACKBONES, NETWORKS, recognized
from keras_psp.weights.files import Checkpoint, WeightsFileError, file_format, read_checkpoint
from keras_psp.weights.files.errors import naming, printable
from keras_psp.weights.names import Family
from keras_psp.weights.preset_folder import is_preset_folder

# Options of `convert` that belong to the backbone.
_BACKBONE_OPTIONS = ("output_stride", "dilations", "contract_dilation", "dilate_second")


def convert(
    path: str | Path | Sequence[str | Path], *, verbose: bool = True, **options: Any
) -> PSPNet:
    """Converts a checkpoint of any supported project, which is recognized from the file.

    Supported projects are mmsegmentation, semseg, CSAILVision, segmentation_models.pytorch,
    gluon-cv, the Caffe original and keras_psp itself (`.keras` files); docs/weights.md lists how
    they differ. No code in a file is run, and PyTorch, MXNet and Caffe aren't needed.

    Args:
        path: the file. CSAILVision's networks consist of two files: pass the encoder's, with
            the decoder's in the same folder, or both.
        verbose: whether to print a summary of the network on stderr.
        options: arguments of `PSPNet` that don't change the weights' shapes, to replace
            those in the file: align_corners, dropout, mean, std, class_names, palette,
            activation, input_shape, dtype; and of the backbone: output_stride, dilations,
            contract_dilation, dilate_second.

    Raises:
        FileNotFoundError: if there is no such file.
        keras_psp.weights.WeightsFileError: if a file is damaged, unsafe or of an unknown format,
            or its tensors don't fit; the message names them.

    Example:
        model = convert("iter_80000.pth")
        model.save("pspnet.keras")
    """
    if "backbone" in options:
        raise ValueError(
            "backbone= can't be chosen, since it is in the file; output_stride, dilations, "
            "contract_dilation and dilate_second can."
        )
    paths = [local_path("path", p) for p in ([path] if isinstance(path, str | Path) else path)]
    if len(paths) == 1 and not paths[0].is_dir() and file_format(paths[0]) == "keras":
        return _open_keras(paths[0], options, verbose)
    return convert_checkpoint(read_network(*paths), verbose=verbose, **options)


def convert_checkpoint(checkpoint: Checkpoint, *, verbose: bool = True, **options: Any) -> PSPNet:
    """Converts a checkpoint in memory; see `convert`."""
    family = _recognize(checkpoint)
    if family in BACKBONES:
        raise WeightsFileError(
            f"{checkpoint.path} contains {family.title}, not a PSPNet; use it as the backbone of "
            f"one with PSPNet(num_classes=..., weights={str(checkpoint.path)!r})."
        )
    with naming(checkpoint.path):
        tensors = family.with_background(checkpoint.tensors)
        arguments = family.architecture(tensors)
        if family.describe is not None:
            arguments |= family.describe(checkpoint, arguments)
    model = build(arguments, **options)
    with naming(checkpoint.path):
        family.load(model, tensors)
    _check_finite(model, checkpoint.path)
    if verbose:
        print(f"{checkpoint.path.name}: {family.title}, {summary(model)}", file=sys.stderr)
    return model


def _check_finite(model, path):
    try:
        check_weights(model, str(path))
    except ValueError as error:
        raise WeightsFileError(str(error)) from None


def build(arguments: dict[str, Any], **options: Any) -> PSPNet:
    """Builds a PSPNet from a family's arguments and the user's options."""
    chosen = {key: options.pop(key) for key in _BACKBONE_OPTIONS if key in options}
    backbone = {**arguments["backbone"], **chosen, "dtype": options.get("dtype")}
    network = DilatedResNet(**backbone, name="backbone")
    return PSPNet(**{**arguments, **options, "backbone": network})


def summary(model: PSPNet) -> str:
    """Returns a one-line description of a converted network."""
    backbone = model.backbone
    stem = "7x7 stem" if len(backbone.stem_filters) == 1 else f"stem {backbone.stem_filters}"
    head = "with" if model.aux_weight > 0 else "without"
    return (
        f"ResNet-{backbone.depth} ({stem}), output stride {backbone.output_stride}, "
        f"{model.num_classes} classes, {head} auxiliary head, align_corners={model.align_corners}."
    )


def read_network(*paths: Path) -> Checkpoint:
    """Reads a checkpoint; CSAILVision's encoder and decoder become one checkpoint.

    For these, one of the files or their folder is enough. A network inside another module, such as
    the `model` of a LightningModule, is read alone.
    """
    if len(paths) == 1:
        paths = _with_other_half(paths[0])
    if len(paths) == 1:
        return _unwrapped(read_checkpoint(paths[0]))
    if len(paths) != 2:
        raise ValueError(f"{len(paths)} files; pass one file, or an encoder's and a decoder's.")
    encoder, decoder = (read_checkpoint(path) for path in paths)
    if "ppm.0.1.weight" in encoder.tensors:
        encoder, decoder = decoder, encoder
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.tensors.items()}
    tensors |= {f"decoder.{name}": tensor for name, tensor in decoder.tensors.items()}
    return Checkpoint(encoder.path, encoder.format, tensors)


def _unwrapped(checkpoint):
    """Returns the network alone if another module, e.g. a LightningModule, contains it."""
    if recognized(checkpoint.tensors) is not None:
        return checkpoint
    modules: dict[str, dict[str, Any]] = {}
    for name, tensor in checkpoint.tensors.items():
        module, _, rest = name.partition(".")
        modules.setdefault(module, {})[rest] = tensor
    # A backbone alone may be part of a damaged or other network.
    networks = [name for name, tensors in modules.items() if recognized(tensors, NETWORKS)]
    if not networks:
        return checkpoint
    if len(networks) > 1:
        raise WeightsFileError(
            f"{checkpoint.path}: contains several networks, {printable(', '.join(networks))}; save "
            "the state dict of one and convert that."
        )
    # As in examples of segmentation_models.pytorch.
    if "mean" in checkpoint.tensors and "std" in checkpoint.tensors:
        own = (np.ravel(checkpoint.tensors[name]).astype(float) for name in ("mean", "std"))
        mean, std = (values.round(4).tolist() for values in own)
        print(
            f"{checkpoint.path.name}: its module normalizes images, mean={mean} and std={std}, but "
            "doesn't show whether they are 0 to 1 or 0 to 255. ImageNet's values for 0 to 255 are "
            "used; pass mean= and std= to change them.",
            file=sys.stderr,
        )
    return dataclasses.replace(checkpoint, tensors=modules[networks[0]])


def _with_other_half(path):
    """CSAILVision's encoder and decoder, given either or their folder; other paths alone."""
    if path.is_dir():
        if any(path.glob("*.keras")) or is_preset_folder(path):
            raise WeightsFileError(
                f"{path} is the folder of a training run or of a preset, which needs no "
                f"conversion; open it with keras_psp.PSPNet(weights={str(path)!r})."
            )
        encoders = sorted(path.glob("encoder_epoch_*.pth"))
        if len(encoders) != 1:
            raise WeightsFileError(
                f"{path} is a folder with {len(encoders)} files encoder_epoch_N.pth instead of "
                "one, and without best.keras or last.keras; pass the checkpoint itself."
            )
        path = encoders[0]
    match = re.fullmatch("(encoder|decoder)(_epoch.*)", path.name)
    if match is None:
        return (path,)
    halves = [path.with_name(half + match[2]) for half in ("encoder", "decoder")]
    for half in halves:
        if not half.exists():
            raise FileNotFoundError(
                f"{path} is half of a network; put {half.name} in the same folder."
            )
    return halves


def _recognize(checkpoint: Checkpoint) -> Family:
    family = recognized(checkpoint.tensors)
    if family is not None:
        return family
    best = max(NETWORKS + BACKBONES, key=lambda f: len(f.resemblance(checkpoint.tensors)))
    if len(best.resemblance(checkpoint.tensors)) >= 2:
        lacking = [sign for sign in best.signs if sign not in checkpoint.tensors]
        raise WeightsFileError(
            f"{checkpoint.path}: it looks like {best.title} but lacks {', '.join(lacking)}. "
            "Nothing was loaded."
        )
    names = list(checkpoint.tensors)
    first = printable(", ".join(names[:3]))
    raise WeightsFileError(
        f"{checkpoint.path}: its {len(names)} tensors ({first} ...) aren't those of a supported "
        "project: " + ", ".join(dict.fromkeys(f.name for f in NETWORKS)) + "."
    )


def _open_keras(path, options, verbose):
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises errors of many types, pages long
        first = printable(str(error).strip().split("\n")[0])
        raise WeightsFileError(
            f"{path}: Keras can't open it ({first}); it is damaged, or not a PSPNet of keras_psp."
        ) from error
    if not isinstance(model, PSPNet):
        raise WeightsFileError(f"{path} contains a {type(model).__name__}, not a PSPNet.")
    _check_finite(model, path)
    if verbose:
        kind = summary(model) if isinstance(model.backbone, DilatedResNet) else model.name
        print(f"{path.name}: a PSPNet of keras_psp, {kind}", file=sys.stderr)
    changes = {key: options.pop(key) for key in _BACKBONE_OPTIONS if key in options}
    if changes and not isinstance(model.backbone, DilatedResNet):
        raise ValueError(f"{', '.join(changes)}: the backbone in {path} isn't a ResNet.")
    if changes:
        config = {**model.backbone.get_config(), "trainable": True}
        options["backbone"] = DilatedResNet.from_config({**config, **changes})
    return type(model)(weights=model, **options) if options else model
