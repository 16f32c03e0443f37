"""The projects whose networks are known, each by a table of its names."""

from collections.abc import Mapping
from typing import Any

from keras_psp.weights.families.caffe import PSPNET50, caffe
from keras_psp.weights.families.csail import CSAIL
from keras_psp.weights.families.gluoncv import GLUONCV, GLUONCV_EXPORTED
from keras_psp.weights.families.imagenet import APPLICATIONS, TORCHVISION
from keras_psp.weights.families.mmsegmentation import (
    MMSEGMENTATION,
    MMSEGMENTATION_IMAGENET,
    MMSEGMENTATION_PLAIN,
)
from keras_psp.weights.families.semseg import SEMSEG, SEMSEG_IMAGENET
from keras_psp.weights.families.smp import SMP, smp
from keras_psp.weights.names import Family

# The first that matches is taken: a deep stem has the plain one's names and more.
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


def recognized(tensors: Mapping[str, Any], families=NETWORKS + BACKBONES) -> Family | None:
    """The family that tensors of these names belong to."""
    for family in families:
        if family.matches(tensors):
            if family is SMP[2]:
                return smp(tensors)
            if family is PSPNET50:
                return caffe(tensors)
            return family
    return None
