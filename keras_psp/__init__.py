"""PSPNet, the Pyramid Scene Parsing Network, in Keras 3."""

from typing import TYPE_CHECKING

from keras_psp.layers import AuxiliaryHead, DilatedBackbone, DilatedResNet, PyramidPoolingModule
from keras_psp.losses import UpsampledCrossentropy
from keras_psp.metrics import MeanIoU
from keras_psp.models import PSPNet
from keras_psp.optimizers import SGD
from keras_psp.schedules import PolyLearningRate
from keras_psp.version import __version__

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
    "__version__",
    "evaluate",
    "list_presets",
    "predict",
    "train",
]


# Imported when first used: they need more than Keras.
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
else:

    def __getattr__(name):
        if name in _EDGES:
            from importlib import import_module

            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_EDGES})


def list_presets(dataset: str | None = None):
    """The trained networks that `PSPNet.from_preset` knows; prints as a table.

    Args:
        dataset: only those of one data set, as "ade20k" or "cityscapes".
    """
    from keras_psp.weights import list_presets

    return list_presets(dataset)


def predict(images, model=None, **arguments):
    """The class of every pixel of photographs; see `keras_psp.prediction.predict`."""
    from keras_psp.prediction.images import predict

    return predict(images, model, **arguments)


def train(recipe, *, output, **arguments):
    """Train a network by a recipe, or go on with a training; see `keras_psp.training.train`."""
    from keras_psp.training.run import train

    return train(recipe, output=output, **arguments)


def evaluate(data, model=None, **arguments):
    """Evaluates a model on a data set; see `keras_psp.evaluation.evaluate`."""
    from keras_psp.evaluation.run import evaluate

    return evaluate(data, model, **arguments)
