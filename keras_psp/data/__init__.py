"""Sources of labelled images, and the batches made of them.

The names are imported on first use, so that looking at a folder of images
doesn't wait for TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_psp.data.folder import ImageFolder
    from keras_psp.data.pipeline import (
        batch_examples,
        epoch_order,
        evaluation_batches,
        training_batches,
    )
    from keras_psp.data.scenes import GeneratedScenes

_HOMES = {
    "GeneratedScenes": "keras_psp.data.scenes",
    "ImageFolder": "keras_psp.data.folder",
    "batch_examples": "keras_psp.data.pipeline",
    "epoch_order": "keras_psp.data.pipeline",
    "evaluation_batches": "keras_psp.data.pipeline",
    "training_batches": "keras_psp.data.pipeline",
}

__all__ = [
    "GeneratedScenes",
    "ImageFolder",
    "batch_examples",
    "epoch_order",
    "evaluation_batches",
    "training_batches",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
