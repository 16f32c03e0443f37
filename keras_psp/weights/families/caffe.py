"""The Caffe original (hszhao/PSPNet, evaluation/prototxt; src/caffe/layers/bn_layer.cpp)."""

from collections.abc import Mapping
from typing import Any

from keras_psp.imagenet import CAFFE_NORMALIZATION
from keras_psp.weights.names import CAFFE, Family

_UNIT = "conv{stage2}_{block1}_"


def _named(name):
    return (name, f"{name}/bn")


def _family(depth, blocks, stride_in_1x1):
    return Family(
        name="Caffe",
        title=f"a PSPNet{depth} of the Caffe original",
        signs=["conv1_1_3x3_s2/0", "conv5_3_pool1_conv/0"],
        parts={
            "stem": [_named("conv1_1_3x3_s2"), _named("conv1_2_3x3"), _named("conv1_3_3x3")],
            "block": [_named(_UNIT + kind) for kind in ("1x1_reduce", "3x3", "1x1_increase")],
            "shortcut": _named(f"{_UNIT}1x1_proj"),
            "level": _named("conv5_3_pool{bins}_conv"),
            "fusion": _named("conv5_4"),
            "classifier": "conv6",
            # The names in the published files; the repository's prototxts are for testing
            # and leave the head out.
            "auxiliary": _named(f"conv4_{blocks + 1}"),
            "auxiliary_classifier": "conv6_1",
        },
        suffixes=CAFFE,
        concatenation=("features", 3, 2, 1, 0),
        backbone={"stride_in_1x1": stride_in_1x1},
        network={"align_corners": True, **CAFFE_NORMALIZATION},
    )


# conv3_1 strides in its 1x1 in pspnet50_ADE20K_473.prototxt, in its 3x3 in pspnet101_*.
PSPNET50 = _family(50, blocks=6, stride_in_1x1=True)
PSPNET101 = _family(101, blocks=23, stride_in_1x1=False)


def caffe_family(tensors: Mapping[str, Any]) -> Family:
    """Returns the family of the network's depth."""
    return PSPNET101 if "conv4_7_3x3/0" in tensors else PSPNET50
