"""Sources of labelled images, and the batches made of them.

The names are imported on first use, so that looking at a folder of images
doesn't wait for TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_psp.data.folder import ImageFolder
    from keras_psp.data.lists import FileList
    from keras_psp.data.loading import list_datasets, load
    from keras_psp.data.pairs import ImagePairs
    from keras_psp.data.pipeline import (
        batch_examples,
        epoch_order,
        evaluation_batches,
        training_batches,
    )
    from keras_psp.data.scenes.generated import GeneratedScenes
    from keras_psp.data.split import Split
    from keras_psp.data.tfds import TFDSSource

_HOMES = {
    "FileList": "keras_psp.data.lists",
    "GeneratedScenes": "keras_psp.data.scenes.generated",
    "ImageFolder": "keras_psp.data.folder",
    "ImagePairs": "keras_psp.data.pairs",
    "Split": "keras_psp.data.split",
    "TFDSSource": "keras_psp.data.tfds",
    "batch_examples": "keras_psp.data.pipeline",
    "epoch_order": "keras_psp.data.pipeline",
    "evaluation_batches": "keras_psp.data.pipeline",
    "load": "keras_psp.data.loading",
    "list_datasets": "keras_psp.data.loading",
    "training_batches": "keras_psp.data.pipeline",
}

__all__ = [
    "FileList",
    "GeneratedScenes",
    "ImageFolder",
    "ImagePairs",
    "Split",
    "TFDSSource",
    "batch_examples",
    "epoch_order",
    "evaluation_batches",
    "list_datasets",
    "load",
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
