"""The export formats and their precisions, for modules that don't import Keras."""

PRECISIONS = {
    "saved_model": ("float32",),
    "tf_serving": ("float32",),
    "tflite": ("float32", "float16", "dynamic_int8", "int8"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
}
