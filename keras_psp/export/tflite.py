"""TFLite (LiteRT) flatbuffers."""

import operator
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_psp.export.inference import check_images, export_target, require_tensorflow_backend
from keras_psp.export.saved_model import write_saved_model
from keras_psp.files import written_aside


def tflite(model, path: str | os.PathLike, *, image_size: tuple[int, int]) -> None:
    """Write a float32 TFLite file for one image of a fixed size.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: file to write; an existing one is replaced once the new one is whole.
        image_size: (height, width).

    Input "image": (1, height, width, 3) float32, RGB 0..255. Output "logits":
    (1, height, width, num_classes) float32. Only TFLite's own operations are used.
    """
    require_tensorflow_backend("A TFLite file")
    import tensorflow as tf

    try:
        height, width = (operator.index(side) for side in image_size)
    except (TypeError, ValueError):
        raise ValueError(
            f"image_size is {image_size!r}; it must be two integers, (height, width)."
        ) from None
    target = export_target(path, folder=False)
    with tempfile.TemporaryDirectory() as folder, written_aside(target) as aside:
        write_saved_model(model, Path(folder) / "saved_model", (1, height, width, 3))
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved_model")
        # An operation TFLite lacks is then an error here instead of on the phone.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        aside.write_bytes(converter.convert())


def open_tflite(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to logits, one image at a time."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # until TensorFlow drops it for ai-edge-litert

    interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
    runner = interpreter.get_signature_runner()

    size = tuple(int(n) for n in interpreter.get_input_details()[0]["shape"][1:3])

    def predict(images):
        check_images(images, size)
        return np.concatenate(
            [runner(image=np.asarray(image, "float32")[None])["logits"] for image in images]
        )

    return predict
