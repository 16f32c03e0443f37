"""Sources of labeled images, and the batches made from them.

The names are imported on first use, so that looking at a folder of images doesn't have to wait
for TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

# Modules of the names that aren't in `pipeline`.
_MODULES = {
    "FileList": "lists",
    "GeneratedScenes": "scenes.generated",
    "ImageFolder": "folder",
    "ImagePairs": "pairs",
    "Split": "split",
    "TFDSSource": "tfds",
    "list_datasets": "loading",
    "load": "loading",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'pipeline')}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
