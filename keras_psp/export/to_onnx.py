"""ONNX files, for ONNX Runtime and everything else that reads them."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_psp.export.graph import (
    InputType,
    Output,
    Signature,
    check_network,
    class_dtype,
    inference_function,
)
from keras_psp.export.inference import (
    as_input,
    export_target,
    float32_model,
    in_batches,
    require_tensorflow_backend,
)
from keras_psp.export.metadata import metadata, metadata_json
from keras_psp.export.onnx_network import IR_VERSION, OPSET, TYPES, Graph, network
from keras_psp.export.representative import calibration_batches, check_representative
from keras_psp.export.trial import check_output
from keras_psp.files import written_aside
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.models.pspnet import PSPNet
from keras_psp.progress import with_bar

INSTALL = 'pip install "keras-psp[onnx]"'


def onnx(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    precision: Literal["float32", "int8"] = "float32",
    representative: Iterable[Any] | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    winograd: bool = True,
    preset: str | None = None,
    licence: str | None = None,
    progress: bool = True,
) -> None:
    """Write an ONNX file of the network, made for inference; on any backend of Keras.

    Opset 17, ONNX's own operations only. ONNX Runtime runs the file once before it takes its
    place.

    Args:
        model: a `PSPNet`. Those of a `DilatedResNet` are written directly; others, on
            Keras' TensorFlow backend, by tf2onnx.
        path: file to write; an existing one is replaced once the new one is whole.
        image_size: (height, width); None for any size, which is slower.
        batch_size: images at a time; None for any number.
        precision: "float32", or "int8": the convolutions in 8 bits, with ranges measured on
            `representative`.
        representative: for "int8", images like those to come, see `representative_images`.
        input_dtype, output: see `Signature`.
        winograd: whether large 3x3 convolutions take Winograd's fewer multiplications where
            the size is fixed and the precision float32: fastest on CPUs.
        preset, licence: see `metadata`; they are in metadata_props, key "keras_psp".
        progress: show on stderr how far it is.

    Input "image": (batch, height, width, 3), RGB 0..255. Output: "classes" (batch, height,
    width), or "logits" or "probabilities" (batch, height, width, classes), float32.

    Raises:
        ValueError: for arguments that make no file.
        RuntimeError: the file that was made doesn't run.
    """
    if precision not in ("float32", "int8"):
        raise ValueError(f"precision={precision!r} is unknown; choose 'float32' or 'int8'.")
    signature = Signature(image_size, batch_size, input_dtype, output)
    check_representative(precision, signature, representative, "float32")
    check_network(model, signature)
    target = export_target(path, suffix=".onnx")
    _require_runtime()
    proto, graph = onnx_model(
        model,
        signature,
        winograd=winograd and precision == "float32",
        preset=preset,
        licence=licence,
    )
    with written_aside(target) as aside:
        if precision == "float32":
            aside.write_bytes(proto.SerializeToString())
        else:
            batches = calibration_batches(representative, signature)
            _quantised(proto, graph, aside, batches, progress)
        if progress:
            print(f"{target.name}: running it once", file=sys.stderr)
        check_output("ONNX file", lambda: open_onnx(aside), model, signature)


def _require_runtime():
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"ONNX files are run by onnxruntime: {INSTALL}") from error
    return onnxruntime


def onnx_model(
    model, signature, *, winograd, planes=False, halves=False, preset=None, licence=None
):
    """An `onnx.ModelProto` of the network, and the `Graph` it was made of; see `network`."""
    try:
        from onnx import helper
    except ImportError as error:
        raise ImportError(f"ONNX graphs are written by onnx: {INSTALL}") from error
    if not isinstance(model.backbone, DilatedResNet):
        proto, graph = _traced(model, signature)
        about = metadata(model, signature, preset=preset, licence=licence)
        helper.set_model_props(proto, {"keras_psp": metadata_json(about)})
        return proto, graph
    graph = network(
        float32_model(model), signature, use_winograd=winograd, planes=planes, halves=halves
    )
    batch, height, width, _ = signature.shape
    shape = [batch or "batch", height or "height", width or "width"]
    given = helper.make_tensor_value_info("image", TYPES[signature.input_dtype], [*shape, 3])
    kind, found = class_dtype(model.num_classes), shape
    if signature.output != "classes":
        kind, found = "float32", [*shape, model.num_classes]
    result = helper.make_tensor_value_info(signature.output, TYPES[kind], found)
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "PSPNet", [given], [result], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="keras_psp",
    )
    about = metadata(model, signature, preset=preset, licence=licence)
    helper.set_model_props(proto, {"keras_psp": metadata_json(about)})
    return proto, graph


def _traced(model, signature):
    """The graph of a network with a backbone that only TensorFlow can walk through."""
    require_tensorflow_backend(f"An ONNX file with a {type(model.backbone).__name__}")
    try:
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            f"ONNX files of backbones other than DilatedResNet need tf2onnx: {INSTALL}"
        ) from error
    import tensorflow as tf
    from onnx import helper

    function = tf.function(inference_function(model, signature, in_blocks=False), autograph=False)
    given = [tf.TensorSpec(signature.shape, signature.input_dtype, name="image")]
    proto, _ = tf2onnx.convert.from_function(function, given, opset=OPSET)
    proto.ir_version = IR_VERSION
    result = proto.graph.output[0]
    if result.name != signature.output:  # versions of tf2onnx differ in this
        proto.graph.node.append(helper.make_node("Identity", [result.name], [signature.output]))
        result.name = signature.output
    graph = Graph()
    graph.quantisable += [node.name for node in proto.graph.node if node.op_type == "Conv"]
    return proto, graph


def _quantised(proto, graph, path, batches, progress):
    """Let ONNX Runtime put the convolutions into 8 bits and write the file."""
    import logging

    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            shown = with_bar(batches, "Measuring ranges", len(batches)) if progress else batches
            self._batches = iter(shown)

        def get_next(self):
            batch = next(self._batches, None)
            return None if batch is None else {"image": batch}

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float32.onnx"
        source.write_bytes(proto.SerializeToString())
        logger = logging.getLogger()
        before = logger.level
        logger.setLevel(logging.ERROR)  # it recommends a step that this graph has behind it
        try:
            quantization.quantize_static(
                str(source),
                str(path),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                nodes_to_quantize=graph.quantisable,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        finally:
            logger.setLevel(before)


def open_onnx(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to the output, by ONNX Runtime's CPU.

    Args:
        path: of the file.
        num_threads: default all cores.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    onnxruntime = _require_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or os.cpu_count() or 1
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own classes, which share no base of their own
        raise ValueError(
            f"{path} can't be opened by ONNX Runtime ({str(error).splitlines()[0]}); it is broken "
            "or no ONNX file."
        ) from error
    (given,) = session.get_inputs()
    dtype = "uint8" if given.type == "tensor(uint8)" else "float32"
    batch, *size, _ = (n if isinstance(n, int) else None for n in given.shape)
    about = json.loads(session.get_modelmeta().custom_metadata_map.get("keras_psp", "{}"))
    smallest = about.get("input", {}).get("smallest_side", 1)

    def predict(images):
        images = as_input(images, dtype, size, smallest)
        parts = [images] if batch is None else in_batches(images, batch)
        return np.concatenate([session.run(None, {given.name: part})[0] for part in parts])

    return predict
