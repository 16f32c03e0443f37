"""Sources of labeled images, and the batches made from them.

TensorFlow is imported when a function first needs it, so that looking at a folder of images
doesn't have to wait for it.
"""

from keras_psp.data.folder import ImageFolder
from keras_psp.data.joining import JoinedPairs
from keras_psp.data.lists import FileList
from keras_psp.data.loading import list_datasets, load
from keras_psp.data.pairs import ImagePairs
from keras_psp.data.pipeline import (
    batch_examples,
    epoch_order,
    evaluation_batches,
    training_batches,
)
from keras_psp.data.report import DataReport, examine
from keras_psp.data.scenes.generated import GeneratedScenes
from keras_psp.data.split import Split
from keras_psp.data.statistics import BandStatistics, band_statistics
from keras_psp.data.tfds import TFDSSource

__all__ = [
    "BandStatistics",
    "DataReport",
    "FileList",
    "GeneratedScenes",
    "ImageFolder",
    "ImagePairs",
    "JoinedPairs",
    "Split",
    "TFDSSource",
    "band_statistics",
    "batch_examples",
    "epoch_order",
    "evaluation_batches",
    "examine",
    "list_datasets",
    "load",
    "training_batches",
]
