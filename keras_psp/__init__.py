"""PSPNet, the Pyramid Scene Parsing Network, in Keras 3."""

from keras_psp.layers import AuxiliaryHead, DilatedBackbone, DilatedResNet, PyramidPoolingModule
from keras_psp.losses import UpsampledCrossentropy
from keras_psp.metrics import MeanIoU
from keras_psp.models import PSPNet
from keras_psp.optimizers import SGD
from keras_psp.schedules import PolyLearningRate

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AuxiliaryHead",
    "DilatedBackbone",
    "DilatedResNet",
    "MeanIoU",
    "PSPNet",
    "PolyLearningRate",
    "PyramidPoolingModule",
    "UpsampledCrossentropy",
]
