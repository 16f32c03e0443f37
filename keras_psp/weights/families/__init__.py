"""The supported projects, each with a table of its tensor names."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_psp.weights.families.caffe import PSPNET50, caffe_family
from keras_psp.weights.families.csail import CSAIL
from keras_psp.weights.families.gluoncv import GLUONCV, GLUONCV_EXPORTED
from keras_psp.weights.families.imagenet import APPLICATIONS, TORCHVISION
from keras_psp.weights.families.mmsegmentation import (
    MMSEGMENTATION,
    MMSEGMENTATION_IMAGENET,
    MMSEGMENTATION_PLAIN,
)
from keras_psp.weights.families.semseg import SEMSEG, SEMSEG_IMAGENET
from keras_psp.weights.families.smp import SMP, smp_family
from keras_psp.weights.names import Family

# The first match counts: a deep stem contains the plain stem's names.
NETWORKS = (
    SEMSEG,
    MMSEGMENTATION,
    MMSEGMENTATION_PLAIN,
    CSAIL,
    SMP[2],
    GLUONCV,
    GLUONCV_EXPORTED,
    PSPNET50,
)
BACKBONES = (MMSEGMENTATION_IMAGENET, SEMSEG_IMAGENET, TORCHVISION, APPLICATIONS)


def recognized(
    tensors: Mapping[str, Any], families: Sequence[Family] = NETWORKS + BACKBONES
) -> Family | None:
    """Returns the family that tensors of these names belong to, or None."""
    for family in families:
        if family.matches(tensors):
            if family is SMP[2]:
                return smp_family(tensors)
            if family is PSPNET50:
                return caffe_family(tensors)
            return family
    return None
