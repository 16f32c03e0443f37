"""PSPNet, the Pyramid Scene Parsing Network, in Keras 3."""

import os
from typing import TYPE_CHECKING, Any

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


# Rooms that need more than Keras are imported when they are first used.
_EDGES = (
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
    from keras_psp.evaluation import Evaluation
    from keras_psp.prediction import Prediction, Predictions
    from keras_psp.training import Recipe, Run
    from keras_psp.weights.presets import PresetTable
else:

    def __getattr__(name):
        if name in _EDGES:
            from importlib import import_module

            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EDGES})


def list_presets(dataset: str | None = None) -> "PresetTable":
    """Lists the trained networks that `PSPNet.from_preset` opens; prints as a table.

    Args:
        dataset: only those of one data set, for instance "ade20k" or "cityscapes".
    """
    from keras_psp.weights import list_presets

    return list_presets(dataset)


def predict(images: Any, model: Any = None, **arguments: Any) -> "Prediction | Predictions":
    """Predicts the class of every pixel of images; see `keras_psp.prediction.predict`."""
    from keras_psp.prediction import predict

    return predict(images, model, **arguments)


def train(recipe: "str | Recipe", *, output: str | os.PathLike, **arguments: Any) -> "Run":
    """Trains a network by a recipe, or resumes a training; see `keras_psp.training.train`."""
    from keras_psp.training import train

    return train(recipe, output=output, **arguments)


def evaluate(data: Any, model: Any = None, **arguments: Any) -> "Evaluation":
    """Evaluates a network on a data set; see `keras_psp.evaluation.evaluate`."""
    from keras_psp.evaluation import evaluate

    return evaluate(data, model, **arguments)
