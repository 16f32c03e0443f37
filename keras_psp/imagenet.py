"""Facts about ImageNet and its ResNets, for modules that don't import Keras."""

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

RESNET_DEPTHS = (18, 34, 50, 101, 152, 269)
"""Depths of `DilatedResNet`."""
