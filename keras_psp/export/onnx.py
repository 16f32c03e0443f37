"""ONNX files."""

import os
from collections.abc import Callable

import numpy as np

from keras_psp.export.graph import InputType, Output, Signature, check_size, class_dtype
from keras_psp.export.inference import as_input, export_target, float32_model
from keras_psp.export.metadata import metadata, metadata_json
from keras_psp.export.onnx_network import _ONNX_TYPES, IR_VERSION, OPSET, network
from keras_psp.files import written_aside
from keras_psp.models.pspnet import PSPNet


def onnx_model(model, signature, *, use_winograd=True, preset=None, licence=None):
    """An `onnx.ModelProto` of the network."""
    from onnx import helper

    check_size(model, signature)
    graph = network(float32_model(model), signature, use_winograd=use_winograd)
    batch, height, width, _ = signature.shape
    shape = [batch or "batch", height or "height", width or "width"]
    kind = class_dtype(model.num_classes) if signature.output == "classes" else "float32"
    found = shape if signature.output == "classes" else [*shape, model.num_classes]
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "PSPNet",
            [
                helper.make_tensor_value_info(
                    "image", _ONNX_TYPES[signature.input_dtype], [*shape, 3]
                )
            ],
            [helper.make_tensor_value_info(signature.output, _ONNX_TYPES[kind], found)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="keras_psp",
    )
    about = metadata(model, signature, preset=preset, licence=licence)
    helper.set_model_props(proto, {"keras_psp": metadata_json(about)})
    return proto
