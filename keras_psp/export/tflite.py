"""TFLite (LiteRT) flatbuffers."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_psp.export.graph import InputType, Output, Signature
from keras_psp.export.inference import as_input, export_target, require_tensorflow_backend
from keras_psp.export.saved_model import write_saved_model
from keras_psp.files import written_aside
from keras_psp.models.pspnet import PSPNet


def tflite(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int],
    input_dtype: InputType = "uint8",
    output: Output = "classes",
) -> None:
    """Write a float32 TFLite file for one image of a fixed size.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: file to write; an existing one is replaced once the new one is whole.
        image_size: (height, width).
        input_dtype, output: see `Signature`.

    Input "image": (1, height, width, 3), RGB 0..255. Output: "classes" (1, height, width), or
    "logits" or "probabilities" (1, height, width, classes). Only TFLite's own operations are used.
    """
    require_tensorflow_backend("A TFLite file")
    import tensorflow as tf

    signature = Signature(image_size, 1, input_dtype, output)
    target = export_target(path, folder=False)
    with tempfile.TemporaryDirectory() as folder, written_aside(target) as aside:
        write_saved_model(model, Path(folder) / "saved_model", signature, in_blocks=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved_model")
        # An operation TFLite lacks is then an error here instead of on the phone.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        aside.write_bytes(converter.convert())


def open_tflite(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to the output, one image at a time."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # until TensorFlow drops it for ai-edge-litert

    interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
    runner = interpreter.get_signature_runner()

    details = interpreter.get_input_details()[0]
    size = tuple(int(n) for n in details["shape"][1:3])

    def predict(images):
        images = as_input(images, details["dtype"], size)
        return np.concatenate([next(iter(runner(image=image[None]).values())) for image in images])

    return predict
