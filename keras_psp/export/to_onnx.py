"""ONNX files, for ONNX Runtime and everything else that reads them."""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_psp.arguments import checked_flag
from keras_psp.export.formats import PRECISIONS
from keras_psp.export.graph import (
    InputType,
    Output,
    Signature,
    channels_of_network,
    float32_model,
    inference_function,
    refuses_small_images,
)
from keras_psp.export.inputs import graph_function, thread_count
from keras_psp.export.metadata import metadata, metadata_json
from keras_psp.export.onnx_network import IR_VERSION, OPSET, TYPES, network
from keras_psp.export.representative import calibration_batches, check_precision
from keras_psp.export.writing import checked_export, require_tensorflow_backend, required
from keras_psp.files import local_path
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet
from keras_psp.progress import with_bar


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
    reduce_range: bool = False,
    preset: str | None = None,
    license: str | None = None,
    progress: bool = True,
) -> None:
    """Writes an ONNX file of the network, optimized for inference, on any backend of Keras.

    The file uses opset 17 and standard operations only. ONNX Runtime runs it once before it
    replaces an existing file.

    Args:
        model: a `PSPNet`. Networks with a `DilatedResNet` are written directly; others by
            tf2onnx, on Keras' TensorFlow backend.
        path: file to write, ending in .onnx.
        precision: "float32", or "int8": 8-bit convolutions, with ranges measured on
            `representative`.
        representative: for "int8", images like those to come, see `representative_images`.
        image_size, batch_size, input_dtype, output: see `Signature`.
        winograd: whether large 3x3 convolutions use Winograd's algorithm, which has a fifth of
            the multiplications and is fastest on CPUs. Only applies if the size is fixed and the
            precision is float32.
        reduce_range: whether "int8" weights have 7 bits, for CPUs without VNNI (Intel's before
            2019, AMD's before Zen 4), whose sums of products overflow with 8 bits.
        preset, license: see `metadata`; they are in metadata_props, key "keras_psp".
        progress: report progress on stderr.

    Raises:
        ValueError: if the arguments are invalid.
        RuntimeError: if the resulting file doesn't run.
    """
    signature = Signature(image_size, batch_size, input_dtype, output, channels_of_network(model))
    winograd = checked_flag("winograd", winograd)
    check_precision(model, precision, PRECISIONS["onnx"], signature, representative)
    if checked_flag("reduce_range", reduce_range) and precision != "int8":
        raise ValueError(
            f"reduce_range=True is for precision='int8' but this is {precision!r}; leave it out."
        )
    with checked_export(
        path, "ONNX file", open_onnx, model, signature, suffix=".onnx", progress=progress
    ) as draft:
        _runtime()
        winograd = winograd and precision == "float32"
        proto, quantizable = onnx_model(model, signature, use_winograd=winograd)
        about = metadata_json(metadata(model, signature, preset=preset, license=license))
        proto.metadata_props.add(key="keras_psp", value=about)
        if precision == "float32":
            draft.write_bytes(proto.SerializeToString())
        else:
            batches = calibration_batches(representative, signature)
            _quantize(proto, quantizable, draft, batches, reduce_range, progress)


def _runtime():
    return required("onnxruntime", "ONNX files are run by", "onnx")


def onnx_model(model: PSPNet, signature: Signature, **options: bool) -> tuple[Any, list[str]]:
    """An `onnx.ModelProto`, and the nodes to quantize; the options are those of `network`."""
    required("onnx", "ONNX graphs are written by", "onnx")
    if not isinstance(model.backbone, DilatedResNet):
        return _traced(model, signature)
    from onnx import helper

    graph = network(float32_model(model), signature, **options)
    image, result = _input_and_output(signature, model.num_classes)
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "PSPNet", [image], [result], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="keras_psp",
    )
    return proto, graph.quantizable


def _input_and_output(signature, num_classes):
    """Describes input and output; sizes that vary are called "batch", "height" and "width"."""
    from onnx import helper

    known = zip(signature.shape, ("batch", "height", "width"), strict=False)
    sizes = [size or name for size, name in known]
    image = helper.make_tensor_value_info(
        "image", TYPES[signature.input_dtype], [*sizes, signature.channels]
    )
    scores = [] if signature.output == "classes" else [num_classes]
    dtype = TYPES[signature.output_dtype(num_classes)]
    return image, helper.make_tensor_value_info(signature.output, dtype, sizes + scores)


def _traced(model, signature):
    """Like `onnx_model`, for a network whose backbone only TensorFlow can trace."""
    name = type(model.backbone).__name__
    require_tensorflow_backend(f"An ONNX file with a {name}")
    tf2onnx = required("tf2onnx", f"ONNX files with a {name} are converted by", "onnx")
    import tensorflow as tf
    from onnx import helper
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    network = inference_function(model, in_blocks=False)

    def traced(image):
        if signature.output == "classes":
            return tf.argmax(network(image, "logits")["logits"], axis=-1)
        return network(image, signature.output)[signature.output]

    if signature.image_size is None:
        traced = refuses_small_images(traced, smallest_side(model))
    inputs = [tf.TensorSpec(signature.shape, signature.input_dtype, name="image")]
    # Otherwise tf2onnx makes inputs of the constants of Keras' `Normalization`.
    frozen = convert_variables_to_constants_v2(
        tf.function(traced, autograph=False).get_concrete_function(*inputs)
    )
    # Simplifications that fail, as one does on MobileNetV3, are left out with a traceback.
    with _errors_only("tf2onnx.optimizer"):
        proto, _ = tf2onnx.convert.from_function(
            tf.function(lambda image: frozen(image)[0], autograph=False),
            inputs,
            custom_op_handlers={"Erfc": (_erfc, [])},
            opset=OPSET,
        )
    proto.ir_version = IR_VERSION
    del proto.opset_import[1:]  # ai.onnx.ml, of which it uses nothing
    # TensorRT computes uint8 from floats only.
    dtypes = ["float32"] * (signature.output == "classes")
    dtypes.append(signature.output_dtype(model.num_classes))
    name = proto.graph.output[0].name  # depends on the version of tf2onnx
    for index, dtype in enumerate(dtypes, 1):
        last = signature.output if index == len(dtypes) else f"classes_{dtype}"
        proto.graph.node.append(helper.make_node("Cast", [name], [last], to=TYPES[dtype]))
        name = last
    image, result = _input_and_output(signature, model.num_classes)
    proto.graph.input[0].CopyFrom(image)
    proto.graph.output[0].CopyFrom(result)
    return proto, [node.name for node in proto.graph.node if node.op_type == "Conv"]


def _erfc(graph, node, name, _):
    """Converts Erfc, of Keras' GELU, which neither tf2onnx nor ONNX knows."""
    inputs, outputs = node.input, node.output
    known = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
    graph.remove_node(name)
    one = graph.make_const(f"{name}/one", np.array(1, np.float32))
    erf = graph.make_node("Erf", inputs, **known)
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, name=name, **known)


def _quantize(proto, nodes, path, images, reduce_range, progress):
    """Lets ONNX Runtime quantize the convolutions to 8 bits and write the file."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        batches = iter(with_bar(images, "Measuring ranges", len(images), shown=progress))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"image": batch} for batch in self.batches), None)

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float32.onnx"
        source.write_bytes(proto.SerializeToString())
        with _errors_only():  # it recommends preprocessing, which this graph has had
            quantization.quantize_static(
                str(source),
                str(path),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                nodes_to_quantize=nodes,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )


@contextlib.contextmanager
def _errors_only(name=None):
    """Hides the warnings of a logger, by default the root of all."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def open_onnx(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Like `open_export`, for an ONNX file of any program; ONNX Runtime runs it on the CPU."""
    num_threads = thread_count(num_threads)
    path = local_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    providers = ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions share no base class
        raise ValueError(
            f"{path} can't be opened by ONNX Runtime ({str(error).splitlines()[0]}); it is damaged "
            "or not an ONNX file."
        ) from error
    (image,) = session.get_inputs()
    dtype = "uint8" if image.type == "tensor(uint8)" else "float32"
    shape = [n if isinstance(n, int) else None for n in image.shape]
    about = json.loads(session.get_modelmeta().custom_metadata_map.get("keras_psp", "{}"))
    smallest = about.get("input", {}).get("smallest_side", 1)
    return graph_function(
        lambda batch: session.run(None, {image.name: batch})[0], shape, dtype, smallest
    )
