"""TFLite (LiteRT) flatbuffers."""

import contextlib
import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_psp.export.graph import (
    InputType,
    Output,
    Signature,
    check_network,
    inference_function,
)
from keras_psp.export.inference import as_input, export_target, require_tensorflow_backend
from keras_psp.export.metadata import metadata
from keras_psp.export.packing import packed, tflite_metadata
from keras_psp.export.representative import check_representative, representative_images
from keras_psp.export.static_graph import static_function
from keras_psp.export.trial import check_output
from keras_psp.files import written_aside
from keras_psp.models.pspnet import PSPNet
from keras_psp.progress import with_bar

Precision = Literal["float32", "float16", "dynamic_int8", "int8"]


def tflite(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    precision: Precision = "float32",
    representative: Iterable[Any] | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    preset: str | None = None,
    licence: str | None = None,
    progress: bool = True,
) -> None:
    """Write a TFLite file for one image at a time, made for inference.

    Only TFLite's own operations are used; the file is run once before it takes its place.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: file to write; an existing one is replaced once the new one is whole.
        image_size: (height, width); None for any size, which is slower.
        precision: "float32"; "float16": weights in float16, half the size; "dynamic_int8":
            weights in 8 bits, activations rounded to 8 bits as they come; "int8": all in 8
            bits, with ranges measured on `representative`.
        representative: for "int8", images like those to come, each an array (height, width,
            3), a path, or an (image, mask) pair, resized to image_size: a list, a `Split` of
            a data source, ... Of more than 100, 100 are taken, evenly spread where it has a
            length.
        input_dtype, output: see `Signature`.
        preset, licence: see `metadata`.
        progress: show on stderr how far it is.

    Input "image": (1, height, width, 3), RGB 0..255. Output: "classes" (1, height, width), or
    "logits" or "probabilities" (1, height, width, classes), float32 in every precision.

    Raises:
        ValueError: for arguments that make no file.
        RuntimeError: the file that was made doesn't run.
    """
    require_tensorflow_backend("A TFLite file")
    signature = Signature(image_size, 1, input_dtype, output)
    _check_precision(precision, signature, representative)
    check_network(model, signature)
    target = export_target(path, suffix=".tflite")
    images = None
    if precision == "int8":
        images = representative_images(representative, signature.image_size)
    about = metadata(model, signature, preset=preset, licence=licence)
    with written_aside(target) as aside:
        if progress:
            print(f"{target.name}: converting", file=sys.stderr)
        content = _converted(model, signature, precision, images, progress)
        aside.write_bytes(packed(content, about, half_precision=precision == "float16"))
        del content
        opened = functools.partial(open_tflite, aside, num_threads=os.cpu_count())
        check_output("TFLite file", opened, model, signature)


def _check_precision(precision, signature, representative):
    if precision not in ("float32", "float16", "dynamic_int8", "int8"):
        raise ValueError(
            f"precision={precision!r} is unknown; choose 'float32', 'float16', 'dynamic_int8' or "
            "'int8'."
        )
    if precision == "int8" and signature.output == "probabilities":
        raise ValueError(
            "output='probabilities' has steps of 1/256 with precision='int8', too coarse to tell "
            "classes apart; take 'logits' or 'classes'."
        )
    check_representative(precision, signature, representative, "dynamic_int8")


def _converted(model, signature, precision, images, progress):
    """The flatbuffer."""
    import tensorflow as tf

    # The converter puts 8-bit input and output around a graph of floats itself.
    whole = precision == "int8"
    if signature.image_size is None:
        function = inference_function(model, signature, in_blocks=False)
    else:
        function = static_function(model, signature, whole=whole)
    spec = tf.TensorSpec(
        signature.shape, "float32" if whole else signature.input_dtype, name="image"
    )
    traced = tf.function(function, autograph=False).get_concrete_function(spec)
    module = tf.Module()
    module.weights = list(traced.graph.variables)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
    # An operation TFLite lacks is then an error here instead of on the phone.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if whole:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _calibration(images, progress)
        if signature.input_dtype == "uint8":
            converter.inference_input_type = tf.uint8
        if signature.output == "classes":
            # Says that no float is wanted; the classes keep the type that the graph gives them.
            converter.inference_output_type = tf.uint8
    with warnings.catch_warnings():
        # Its own interpreter, with which it measures ranges, will go away some day.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        return converter.convert()


def _calibration(images, progress):
    if progress:
        images = with_bar(images, "Measuring ranges", len(images))
    for index, image in enumerate(images):
        image = image.astype("float32")
        if index == 0:
            # The whole range, so that the input's 8 bits are the image's own.
            image[0, 0], image[0, 1] = 0, 255
        yield {"image": image[None]}


def open_tflite(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to the output, one image at a time.

    Needs the LiteRT runtime, `pip install ai-edge-litert`, or TensorFlow, which has one.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # until TensorFlow drops it for ai-edge-litert

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
    except ValueError as error:
        reason = " ".join(str(error).split())  # LiteRT's may end with a line break
        raise ValueError(
            f"{path} can't be opened by LiteRT ({reason}); it is broken or no TFLite file."
        ) from error
    runner = interpreter.get_signature_runner()
    ((name, given),) = runner.get_input_details().items()
    size = tuple(int(n) if n > 0 else None for n in given["shape_signature"][1:3])
    scale, zero_point = given["quantization"]
    # (1, 0) is the image itself, and float inputs say (0, 0).
    quantised = scale != 0 and (scale, zero_point) != (1, 0)

    smallest = 1
    with contextlib.suppress(ValueError, KeyError):  # a file of others
        smallest = tflite_metadata(path)["input"]["smallest_side"]
    lock = threading.Lock()  # of the one interpreter, which has the memory of one run

    def predict(images):
        if not quantised:
            images = as_input(images, given["dtype"], size, smallest)
        else:
            bounds = np.iinfo(given["dtype"])
            images = np.rint(as_input(images, "float32", size, smallest) / scale) + zero_point
            images = np.clip(images, bounds.min, bounds.max).astype(given["dtype"])
        with lock:
            return np.concatenate(
                [next(iter(runner(**{name: image[None]}).values())).copy() for image in images]
            )

    return predict
