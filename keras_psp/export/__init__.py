"""Models out of Python: TensorFlow SavedModel, its server and TFLite, and opening them again."""

from keras_psp.export.packing import tflite_metadata
from keras_psp.export.saved_model import open_saved_model, saved_model
from keras_psp.export.tf_serving import server_files, tf_serving
from keras_psp.export.tflite import open_tflite, tflite

__all__ = [
    "open_saved_model",
    "open_tflite",
    "saved_model",
    "server_files",
    "tf_serving",
    "tflite",
    "tflite_metadata",
]
