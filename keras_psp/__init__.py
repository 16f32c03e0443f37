"""PSPNet, the Pyramid Scene Parsing Network, in Keras 3."""

import sys
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING

from keras_psp.logs import quiet_tensorflow
from keras_psp.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_psp import (  # noqa: F401
        beam,
        data,
        evaluation,
        explanation,
        export,
        labels,
        prediction,
        training,
        visual,
        weights,
    )
    from keras_psp.evaluation import evaluate
    from keras_psp.explanation import explain
    from keras_psp.layers import AuxiliaryHead, DilatedBackbone, DilatedResNet, PyramidPoolingModule
    from keras_psp.losses import UpsampledCrossentropy
    from keras_psp.metrics import MeanIoU
    from keras_psp.models import PSPNet
    from keras_psp.optimizers import SGD
    from keras_psp.prediction import predict
    from keras_psp.schedules import PolyLearningRate
    from keras_psp.training import train
    from keras_psp.weights import list_presets, upload_preset

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
    "explain",
    "list_presets",
    "predict",
    "train",
    "upload_preset",
]

_CORE = ("layers", "losses", "metrics", "models", "optimizers", "schedules")
_EDGES = (
    "beam",
    "data",
    "evaluation",
    "explanation",
    "export",
    "labels",
    "prediction",
    "training",
    "visual",
    "weights",
)
_ROOMS = {
    "SGD": "optimizers",
    "AuxiliaryHead": "layers",
    "DilatedBackbone": "layers",
    "DilatedResNet": "layers",
    "MeanIoU": "metrics",
    "PSPNet": "models",
    "PolyLearningRate": "schedules",
    "PyramidPoolingModule": "layers",
    "UpsampledCrossentropy": "losses",
    "evaluate": "evaluation",
    "explain": "explanation",
    "list_presets": "weights",
    "predict": "prediction",
    "train": "training",
    "upload_preset": "weights",
}


def __getattr__(name: str) -> object:
    """Imports a subpackage, or a name from one, when it is first used."""
    if name in _CORE or name in _EDGES:
        return import_module(f"{__name__}.{name}")
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_CORE, *_EDGES, *_ROOMS})


# The core is imported immediately, so that Keras knows its classes when it opens a saved network.
# The keras-psp command answers most questions without it.
if PurePath(*sys.argv[:1]).stem != "keras-psp":
    quiet_tensorflow()
    for _room in _CORE:
        import_module(f"{__name__}.{_room}")
