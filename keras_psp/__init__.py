"""PSPNet, the Pyramid Scene Parsing Network, in Keras 3."""

from importlib import import_module
from typing import TYPE_CHECKING

from keras_psp.layers import AuxiliaryHead, DilatedBackbone, DilatedResNet, PyramidPoolingModule
from keras_psp.losses import UpsampledCrossentropy
from keras_psp.metrics import MeanIoU
from keras_psp.models import PSPNet
from keras_psp.optimizers import SGD
from keras_psp.schedules import PolyLearningRate
from keras_psp.version import __version__ as __version__

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
    "evaluate",
    "list_presets",
    "predict",
    "train",
]

# What needs more than Keras is imported when it is first used: rooms, and functions by room.
_ROOMS = (
    "beam",
    "data",
    "evaluation",
    "export",
    "labels",
    "prediction",
    "training",
    "visual",
    "weights",
)
_FUNCTIONS = {
    "evaluate": "evaluation",
    "list_presets": "weights",
    "predict": "prediction",
    "train": "training",
}
if TYPE_CHECKING:
    from keras_psp import (  # noqa: F401
        beam,
        data,
        evaluation,
        export,
        labels,
        prediction,
        training,
        visual,
        weights,
    )
    from keras_psp.evaluation import evaluate
    from keras_psp.prediction import predict
    from keras_psp.training import train
    from keras_psp.weights import list_presets
else:

    def __getattr__(name):
        if name in _ROOMS:
            return import_module(f"{__name__}.{name}")
        if name in _FUNCTIONS:
            return getattr(import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_FUNCTIONS})
