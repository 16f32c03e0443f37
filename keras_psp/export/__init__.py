"""Exports for programs without Keras: SavedModel, TF Serving, TFLite, ONNX and OpenVINO."""

from keras_psp.export.by_format import export_model
from keras_psp.export.check import ExportResults, check_exports, open_export
from keras_psp.export.to_onnx import onnx, open_onnx
from keras_psp.export.to_openvino import open_openvino, openvino
from keras_psp.export.to_saved_model import open_saved_model, saved_model
from keras_psp.export.to_tf_serving import server_files, tf_serving
from keras_psp.export.to_tflite import open_tflite, tflite, tflite_metadata

__all__ = [
    "ExportResults",
    "check_exports",
    "export_model",
    "onnx",
    "open_export",
    "open_onnx",
    "open_openvino",
    "open_saved_model",
    "open_tflite",
    "openvino",
    "saved_model",
    "server_files",
    "tf_serving",
    "tflite",
    "tflite_metadata",
]
