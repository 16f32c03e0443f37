"""Facts about ImageNet and its ResNets, for modules that don't import Keras."""

from collections.abc import Sequence

# On the scale 0..255, RGB (semseg/tool/train.py).
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# `ImageNormalization` arguments for networks from Caffe, on the same scale: BGR minus its mean
# (keras-team/keras, applications/imagenet_utils.py).
CAFFE_NORMALIZATION = {
    "mean": (103.939, 116.779, 123.68),
    "std": (1.0, 1.0, 1.0),
    "channel_order": "bgr",
}


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Extends one value each for red, green and blue to any number of channels.

    The first three of more than three channels are red, green and blue; the others, and all of
    one or two channels, get the average of the three values.
    """
    average = sum(values) / 3
    return (*(tuple(values) if channels >= 3 else ()), *(average,) * channels)[:channels]


RESNET_DEPTHS = (18, 34, 50, 101, 152, 269)
"""Depths of `DilatedResNet`."""

# Models of keras.applications by our name, which is Keras' in lower case with underscores.
# Inception and NASNet aren't included, since their unpadded convolutions can't be dilated.
APPLICATIONS = {
    "convnext_tiny": "ConvNeXtTiny",
    "convnext_small": "ConvNeXtSmall",
    "convnext_base": "ConvNeXtBase",
    "convnext_large": "ConvNeXtLarge",
    "convnext_xlarge": "ConvNeXtXLarge",
    **{f"densenet{depth}": f"DenseNet{depth}" for depth in (121, 169, 201)},
    **{f"efficientnet_b{n}": f"EfficientNetB{n}" for n in range(8)},
    **{f"efficientnet_v2_b{n}": f"EfficientNetV2B{n}" for n in range(4)},
    **{f"efficientnet_v2_{size}": f"EfficientNetV2{size.upper()}" for size in "sml"},
    "mobilenet": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3Large",
    "mobilenet_v3_small": "MobileNetV3Small",
    **{f"resnet{depth}_v2": f"ResNet{depth}V2" for depth in (50, 101, 152)},
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "xception": "Xception",
}

EFFICIENTNET_LITE = tuple(f"efficientnet_lite{version}" for version in range(5))

KERAS_MODELS = (*EFFICIENTNET_LITE, *APPLICATIONS)
"""Names of backbones that are a Keras model in a `DilatedBackbone`."""

HUB = "keras_hub:"
"""Prefix of keras-hub's presets, as in "keras_hub:resnet_50_imagenet"."""

BACKBONES = (*(f"resnet{depth}" for depth in RESNET_DEPTHS), *KERAS_MODELS)
"""Names that `PSPNet(backbone=...)` accepts, besides `HUB` and a preset."""

BACKBONE_NAMES = f"{', '.join(BACKBONES)}, or {HUB}PRESET with the name of a keras-hub preset"
"""The same names, for messages."""


def has_keras_model(name: object) -> bool:
    """Whether a backbone by this name is a Keras model in a `DilatedBackbone`."""
    return isinstance(name, str) and (name in KERAS_MODELS or name.startswith(HUB))
