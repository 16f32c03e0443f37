"""TFLite (LiteRT) flatbuffers."""

import contextlib
import functools
import io
import json
import os
import sys
import warnings
import zipfile
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
    inference_function,
    refuses_small_images,
)
from keras_psp.export.inputs import graph_function, thread_count
from keras_psp.export.metadata import NAME, metadata, metadata_json
from keras_psp.export.representative import check_precision, representative_images
from keras_psp.export.task_metadata import LABELS, task_metadata
from keras_psp.export.writing import checked_export, require_tensorflow_backend
from keras_psp.files import local_path
from keras_psp.logs import filtered_stderr
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet
from keras_psp.progress import with_bar

_DEPRECATED = r"\s*(Warning: )?.*tf\.lite\.Interpreter is deprecated"


def tflite(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    precision: Literal["float32", "float16", "dynamic_int8", "int8"] = "float32",
    representative: Iterable[Any] | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    winograd: bool = True,
    preset: str | None = None,
    license: str | None = None,
    progress: bool = True,
) -> None:
    """Writes a TFLite file that segments one image at a time, optimized for inference.

    The file uses TFLite's built-in operations only. It runs once before it replaces an existing
    file.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: file to write, ending in .tflite.
        precision: "float32"; "float16": float16 weights, half the size; "dynamic_int8": 8-bit
            weights, with activations quantized on the fly; "int8": 8 bits throughout, with
            ranges measured on `representative`.
        image_size, input_dtype, output: see `Signature`; the same in every precision.
        representative, winograd, progress: see `onnx`.
        preset, license: see `metadata`.

    Raises:
        ValueError: if the arguments are invalid.
        RuntimeError: if the resulting file doesn't run.
    """
    winograd = checked_flag("winograd", winograd)
    require_tensorflow_backend("A TFLite file")
    signature = Signature(image_size, 1, input_dtype, output, channels_of_network(model))
    if precision == "int8" and output == "probabilities":
        raise ValueError(
            "output='probabilities' has steps of 1/256 with precision='int8', too coarse to tell "
            "classes apart; use 'logits' or 'classes'."
        )
    check_precision(model, precision, PRECISIONS["tflite"], signature, representative)
    with checked_export(
        path, "TFLite file", open_tflite, model, signature, suffix=".tflite", progress=progress
    ) as draft:
        images = []
        if precision == "int8":
            images = representative_images(representative, signature.image_size, signature.channels)
        if progress:
            print(f"{Path(path).name}: converting", file=sys.stderr)
        content = _converted(model, signature, precision, images, winograd, progress)
        about = metadata(model, signature, preset=preset, license=license)
        draft.write_bytes(_packed(content, about, half_precision=precision == "float16"))


def _converted(model, signature, precision, images, winograd, progress):
    import tensorflow as tf

    from keras_psp.export.static_graph import static_function

    # The converter adds 8-bit inputs and outputs to a graph of floats itself.
    quantized = precision == "int8"
    if signature.image_size:
        winograd = winograd and precision == "float32"
        function = static_function(model, signature, float_input=quantized, winograd=winograd)
    else:
        network = inference_function(model, in_blocks=False)
        function = functools.partial(network, output=signature.output)
        function = refuses_small_images(function, smallest_side(model))
    dtype = "float32" if quantized else signature.input_dtype
    spec = tf.TensorSpec(signature.shape, dtype, name="image")
    traced = tf.function(function, autograph=False).get_concrete_function(spec)
    module = tf.Module()
    module.weights = list(traced.graph.variables)
    hidden = contextlib.ExitStack()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
    # An operation that TFLite lacks is then an error here instead of on the phone.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantized:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        uint8 = signature.channels == 3 or signature.input_dtype == "uint8"
        converter.representative_dataset = lambda: _calibration(images, uint8, progress, hidden)
        if signature.input_dtype == "uint8":
            converter.inference_input_type = tf.uint8
        if signature.output == "classes":
            # This only forbids floats; the classes keep the type that the graph gives them.
            converter.inference_output_type = tf.uint8
    with warnings.catch_warnings(), hidden:
        if not quantized:
            hidden.enter_context(filtered_stderr())
        # The converter measures ranges with its own, deprecated interpreter.
        warnings.filterwarnings("ignore", _DEPRECATED)
        return converter.convert()


def _calibration(images, uint8, progress, hidden):
    """Yields the converter's inputs, with a progress bar, and hides what it logs after them."""
    images = with_bar(images, "Measuring ranges", len(images), shown=progress)
    for index, image in enumerate(images):
        image = image.astype("float32")
        if index == 0 and uint8:
            # The full range makes the input's 8 bits the image's own.
            image[0, 0], image[0, 1] = 0, 255
        yield {"image": image[None]}
    hidden.enter_context(filtered_stderr())


def _packed(content, about, *, half_precision):
    """Adds class names, colors and origin to a TFLite file, in two places.

    A ZIP archive at the end of the file, with TFLite's "associated files", contains
    `keras_psp.json` and `labels.txt` (one class name per line). The flatbuffer's metadata entry
    "keras_psp.json" is the same JSON, and survives tools that rewrite the file without the
    archive. The entry "TFLITE_METADATA" is TFLite's own. `half_precision` allows hardware to
    compute in float16 where that is faster.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    for tensor, side in ((graph.inputs[0], "input"), (graph.outputs[0], "output")):
        graph.tensors[tensor].name = about[side]["name"]
    entries = {NAME: metadata_json(about).encode(), "TFLITE_METADATA": task_metadata(about)}
    if half_precision:
        entries["reduced_precision_support"] = b"fp16accfp32"
    model.metadata = [e for e in model.metadata or () if e.name.decode() not in entries]
    for name, value in entries.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(value, np.uint8)
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)

    # One line per class, whatever a name contains.
    labels = "".join(" ".join(name.split()) + "\n" for name in about["class_names"])
    file = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    with zipfile.ZipFile(file, "a") as archive:
        # ZipInfo's fixed date: the same network makes the same file.
        archive.writestr(zipfile.ZipInfo(NAME), entries[NAME])
        archive.writestr(zipfile.ZipInfo(LABELS), labels)
    return file.getvalue()


def open_tflite(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images (batch, height, width, channels) to the output.

    It runs one image at a time, and needs the LiteRT runtime (`pip install ai-edge-litert`) or
    TensorFlow, which includes one.
    """
    num_threads = thread_count(num_threads)
    path = local_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # until TensorFlow drops it for ai-edge-litert

    try:
        with filtered_stderr(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", _DEPRECATED)
            interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            interpreter.allocate_tensors()
    except ValueError as error:
        reason = " ".join(str(error).split())  # LiteRT's may end with a line break
        raise ValueError(
            f"{path} can't be opened by LiteRT ({reason}); it is damaged or not a TFLite file."
        ) from error
    runner = interpreter.get_signature_runner()
    ((name, image),) = runner.get_input_details().items()
    size = [int(n) if n > 0 else None for n in image["shape_signature"][1:3]]
    scale, zero_point = image["quantization"]
    # (1, 0) means the image's own values, and float inputs have (0, 0).
    quantized = scale != 0 and (scale, zero_point) != (1, 0)

    smallest = 1
    with contextlib.suppress(ValueError, KeyError):  # a file of another program
        smallest = tflite_metadata(path)["input"]["smallest_side"]

    def run(batch):
        if quantized:
            bounds = np.iinfo(image["dtype"])
            batch = np.clip(np.rint(batch / scale) + zero_point, bounds.min, bounds.max)
            batch = batch.astype(image["dtype"])
        return next(iter(runner(**{name: batch}).values())).copy()

    dtype = "float32" if quantized else image["dtype"]
    channels = int(image["shape_signature"][3])
    return graph_function(run, (1, *size, channels), dtype, smallest, one_at_a_time=True)


def tflite_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the `metadata` in a TFLite file; raises ValueError if keras_psp didn't write any."""
    path = local_path("path", path)
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(NAME))
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise ValueError(
            f"{path} contains no {NAME}; only files written by keras_psp.export.tflite do."
        ) from None
