"""mmsegmentation (configs/pspnet; mmseg/models/backbones/resnet.py, decode_heads/psp_head.py)."""

import ast
import math
import re
from collections.abc import Sequence
from typing import Any

from keras_psp.weights.files import WeightsFileError
from keras_psp.weights.names import Family, torch_residual

# ResNetV1c's three 3x3 convolutions (resnet.py, _make_stem_layer).
_DEEP_STEM = [("stem.0", "stem.1"), ("stem.3", "stem.4"), ("stem.6", "stem.7")]
_LEVEL = "decode_head.psp_modules.{level}.1."
_NORM = r"\bnorm_cfg=dict(\([^()]*\))"
_STRIDES = ((1, 2, 1, 1), (1, 2, 2, 1), (1, 2, 2, 2))
_BACKBONE = {"contract_dilation": True, "dilate_second": False}


def _describe(checkpoint, arguments):
    """Returns arguments that shapes don't show, from the metadata: configuration, classes, colors.

    mmsegmentation 0.x stores the configuration's text as meta["config"], CLASSES and
    PALETTE; 1.x stores meta["cfg"] and meta["dataset_meta"].
    """
    meta = checkpoint.meta.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    labels = meta.get("dataset_meta")
    labels = labels if isinstance(labels, dict) else {}
    config = meta.get("config") or meta.get("cfg")
    described = _configured(config, arguments) if isinstance(config, str) else {}
    count = arguments["num_classes"]
    names = meta.get("CLASSES") or labels.get("classes")
    palette = meta.get("PALETTE") or labels.get("palette")
    if isinstance(names, tuple | list) and len(names) == count:
        described["class_names"] = [str(name) for name in names]
    if isinstance(palette, tuple | list) and len(palette) == count and all(map(_color, palette)):
        described["palette"] = [list(color) for color in palette]
    return described


def _configured(config, arguments):
    """Returns arguments found in the text of a configuration."""
    backbone = dict(arguments["backbone"])
    strides = _setting(config, "strides")
    if isinstance(strides, tuple):
        if strides not in _STRIDES:
            raise WeightsFileError(
                f"its configuration has strides={strides!r}, which don't make an output stride of "
                "8, 16 or 32."
            )
        backbone |= backbone_options(strides, _setting(config, "dilations"))
    if (contract := _setting(config, "contract_dilation")) is not None:
        backbone["contract_dilation"] = bool(contract)
    if (style := _setting(config, "style")) is not None:
        backbone["stride_in_1x1"] = style == "caffe"
    epsilons = {_setting(norm, "eps") or 1e-5 for norm in re.findall(_NORM, config)}
    if len(epsilons) > 1:
        listed = " and ".join(map(str, sorted(epsilons)))
        raise WeightsFileError(
            f"its configuration has BatchNorms with eps={listed}; all must have the same."
        )
    if epsilons:
        backbone["epsilon"] = epsilons.pop()
    described = {"backbone": backbone}
    head = config[max(config.find("decode_head"), 0) :]
    if (align := _setting(head, "align_corners")) is not None:
        described["align_corners"] = bool(align)
    scales = _setting(head, "pool_scales")
    if isinstance(scales, tuple) and all(isinstance(n, int) for n in scales):
        described["bin_sizes"] = scales
    for key in ("mean", "std"):
        values = _setting(config, key)
        if isinstance(values, tuple) and len(values) == 3:
            described[key] = tuple(map(float, values))
    if False in (_setting(config, "to_rgb"), _setting(config, "bgr_to_rgb")):
        described["channel_order"] = "bgr"
    return described


def _setting(config, key):
    """The first value of a key that is a number, a word or a tuple of numbers, or None."""
    match = re.search(rf"\b{key}=(\([^()]*\)|\[[^\[\]]*\]|'[^']*'|[\w.+-]+)", config)
    try:
        value = ast.literal_eval(match[1]) if match else None
    except (ValueError, SyntaxError):
        return None
    return tuple(value) if isinstance(value, list) else value


def _color(values):
    return (
        isinstance(values, tuple | list)
        and len(values) == 3
        and all(isinstance(n, int) and 0 <= n <= 255 for n in values)
    )


def backbone_options(strides: Sequence[int], dilations: Sequence[int] | None) -> dict[str, Any]:
    """Returns `output_stride` and `dilations` of `DilatedResNet` for mmsegmentation's tuples."""
    stride = 4 * math.prod(strides)
    usual = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}
    options: dict[str, Any] = {"output_stride": stride}
    if dilations is not None and tuple(dilations) != usual.get(stride):
        options["dilations"] = tuple(dilations)
    return options


def _family(variant, title, sign, stem):
    return Family(
        name=f"mmsegmentation{variant}",
        title=f"a PSPNet of mmsegmentation ({title})",
        signs=["decode_head.psp_modules.0.1.conv.weight", f"backbone.{sign}"],
        parts={
            "stem": [(f"backbone.{conv}", f"backbone.{norm}") for conv, norm in stem],
            **torch_residual("backbone."),
            "level": (_LEVEL + "conv", _LEVEL + "bn"),
            "fusion": ("decode_head.bottleneck.conv", "decode_head.bottleneck.bn"),
            "classifier": "decode_head.conv_seg",
            "auxiliary": ("auxiliary_head.convs.0.conv", "auxiliary_head.convs.0.bn"),
            "auxiliary_classifier": "auxiliary_head.conv_seg",
        },
        backbone=_BACKBONE,
        network={"align_corners": False},
        describe=_describe,
    )


MMSEGMENTATION = _family("", "ResNetV1c", "stem.0.weight", _DEEP_STEM)
MMSEGMENTATION_PLAIN = _family(" b", "plain ResNet", "conv1.weight", [("conv1", "bn1")])

# For example resnet50_v1c-2cccc1ad.pth.
MMSEGMENTATION_IMAGENET = Family(
    name="mmsegmentation ImageNet",
    title="an ImageNet ResNetV1c of mmsegmentation",
    signs=["stem.0.weight", "layer4.0.conv1.weight"],
    parts={"stem": _DEEP_STEM, **torch_residual()},
    ignored=[r"fc\.(weight|bias)"],
    backbone=_BACKBONE,
)
