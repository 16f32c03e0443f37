"""The building blocks of PSPNet as Keras layers."""

from keras_psp.layers.auxiliary import AuxiliaryHead
from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.layers.normalization import ImageNormalization
from keras_psp.layers.pyramid import FactorizedFusion, PyramidPoolingModule
from keras_psp.layers.resampling import BilinearResize
from keras_psp.layers.resnet import DilatedResNet

__all__ = [
    "AuxiliaryHead",
    "BilinearResize",
    "DilatedBackbone",
    "DilatedResNet",
    "FactorizedFusion",
    "ImageNormalization",
    "PyramidPoolingModule",
]
