"""Tiny networks with random weights."""

import keras
import numpy as np

from keras_psp import DilatedResNet, PSPNet

SMALLEST_BACKBONES = (
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_v2_b0",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet50_v2",
    "vgg16",
    "xception",
)
"""The smallest of each family that isn't a ResNet of ours; benchmarks/backbones.py has all."""


def tiny_backbone(**arguments):
    """ResNet-18 with one stem convolution of 8 filters; unnamed unless given a name."""
    return DilatedResNet(18, stem_filters=(8,), **arguments)


def tiny_pspnet(num_classes=4, **arguments):
    """PSPNet over `tiny_backbone`.

    `PSPNet` builds an unnamed backbone a second time, under its own name, so that the random
    weights with `backbone=tiny_backbone()` differ from those of the default.
    """
    if "backbone" not in arguments:
        arguments["backbone"] = tiny_backbone(name="backbone")
    return PSPNet(num_classes, **arguments)


def tiny_predictor(num_classes=3, **arguments):
    """PSPNet for predictions only: no auxiliary head, and two bin sizes for small images."""
    defaults = {"backbone": tiny_backbone(), "bin_sizes": (1, 2), "aux_weight": 0}
    return PSPNet(num_classes, **{**defaults, **arguments})


def two_layers():
    """A backbone and a head, for optimizers."""
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="backbone"),
            keras.layers.Dense(2, name="classifier"),
        ]
    )


def random_network(num_classes, *, seed=None, fusion_filters=8):
    """PSPNet whose predictions vary from pixel to pixel; the seed is `num_classes` by default."""
    keras.utils.set_random_seed(num_classes if seed is None else seed)
    network = PSPNet(
        num_classes=num_classes,
        backbone="resnet18",
        bin_sizes=(1, 2),
        fusion_filters=fusion_filters,
        aux_weight=0,
    )
    classifier = network.get_layer("classifier")
    classifier.kernel.assign(np.random.default_rng(0).normal(size=classifier.kernel.shape))
    return network
