from .by_format import export_model
from .check import ExportResults, check_exports, open_export
from .to_onnx import onnx, open_onnx
from .to_openvino import open_openvino, openvino
from .to_saved_model import open_saved_model, saved_model
from .to_tf_serving import server_files, tf_serving
from .to_tflite import open_tflite, tflite, tflite_metadata

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
