"""mmsegmentation (configs/pspnet; mmseg/models/backbones/resnet.py, decode_heads/psp_head.py)."""

import ast
import re

from keras_psp.weights.names import Family

# ResNetV1c's three 3x3 convolutions (resnet.py, _make_stem_layer), or the 7x7 of ResNet.
_DEEP_STEM = [("stem.0", "stem.1"), ("stem.3", "stem.4"), ("stem.6", "stem.7")]
_PLAIN_STEM = [("conv1", "bn1")]
_BACKBONE = {"contract_dilation": True, "dilate_second": False}


def _residual(prefix):
    unit = prefix + "layer{stage}.{block}."
    return {
        "block": [(f"{unit}conv{n}", f"{unit}bn{n}") for n in (1, 2, 3)],
        "shortcut": (f"{unit}downsample.0", f"{unit}downsample.1"),
    }


def _stem(stem):
    return [(f"backbone.{conv}", f"backbone.{norm}") for conv, norm in stem]


def _describe(checkpoint, arguments):
    """Output stride, align_corners, class names and palette, from the file's own meta."""
    meta = checkpoint.meta.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    told = {}
    config = meta.get("config")
    if isinstance(config, str):
        head = config[config.find("decode_head") :]
        align = re.search(r"align_corners=(True|False)", head)
        if align:
            told["align_corners"] = align[1] == "True"
        numbers = {
            key: ast.literal_eval(match[1])
            for key in ("strides", "dilations")
            if (match := re.search(rf"\b{key}=(\([\d, ]+\))", config))
        }
        if "strides" in numbers:
            told["backbone"] = {
                **arguments["backbone"],
                **backbone_options(numbers["strides"], numbers.get("dilations")),
            }
    count = arguments["num_classes"]
    names, palette = meta.get("CLASSES"), meta.get("PALETTE")
    if isinstance(names, tuple | list) and len(names) == count:
        told["class_names"] = [str(name) for name in names]
    if isinstance(palette, tuple | list) and len(palette) == count:
        told["palette"] = [[int(n) for n in color] for color in palette]
    return told


def backbone_options(strides, dilations):
    """Output stride and dilations of `DilatedResNet` for mmsegmentation's own two tuples."""
    stride = 4
    for step in strides:
        stride *= step
    usual = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}
    options = {"output_stride": stride}
    if dilations is not None and tuple(dilations) != usual.get(stride):
        options["dilations"] = tuple(dilations)
    return options


_HEADS = {
    "level": ("decode_head.psp_modules.{level}.1.conv", "decode_head.psp_modules.{level}.1.bn"),
    "fusion": ("decode_head.bottleneck.conv", "decode_head.bottleneck.bn"),
    "classifier": "decode_head.conv_seg",
    "auxiliary": ("auxiliary_head.convs.0.conv", "auxiliary_head.convs.0.bn"),
    "auxiliary_classifier": "auxiliary_head.conv_seg",
}
_SIGN = "decode_head.psp_modules.0.1.conv.weight"

MMSEGMENTATION = Family(
    name="mmsegmentation",
    title="a PSPNet of mmsegmentation (ResNetV1c)",
    signs=[_SIGN, "backbone.stem.0.weight"],
    parts={"stem": _stem(_DEEP_STEM), **_residual("backbone."), **_HEADS},
    backbone=_BACKBONE,
    network={"align_corners": False},
    describe=_describe,
)

MMSEGMENTATION_PLAIN = Family(
    name="mmsegmentation b",
    title="a PSPNet of mmsegmentation (plain ResNet)",
    signs=[_SIGN, "backbone.conv1.weight"],
    parts={"stem": _stem(_PLAIN_STEM), **_residual("backbone."), **_HEADS},
    backbone=_BACKBONE,
    network={"align_corners": False},
    describe=_describe,
)

# resnet50_v1c-2cccc1ad.pth and its like.
MMSEGMENTATION_IMAGENET = Family(
    name="mmsegmentation ImageNet",
    title="an ImageNet ResNetV1c of mmsegmentation",
    signs=["stem.0.weight", "layer4.0.conv1.weight"],
    parts={"stem": _DEEP_STEM, **_residual("")},
    ignored=[r"fc\.(weight|bias)"],
    backbone=_BACKBONE,
)
