"""TensorFlow SavedModel."""

import os
from collections.abc import Callable

import numpy as np

from keras_psp.export.inference import (
    check_images,
    export_target,
    float32_model,
    require_tensorflow_backend,
)
from keras_psp.files import written_aside


def saved_model(model, path: str | os.PathLike) -> None:
    """Write a SavedModel: RGB images 0..255 of any size and number to float32 logits.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: folder to write; an existing one is replaced once the new one is whole.

    Signature "serving_default": "image" (batch, height, width, 3) float32 to "logits"
    (batch, height, width, num_classes) float32.
    """
    require_tensorflow_backend("A SavedModel")
    with written_aside(export_target(path, folder=True)) as aside:
        write_saved_model(model, aside, (None, *model.input_shape[1:]))


def write_saved_model(model, path, shape):
    """Write one signature, "image" of `shape` to "logits", to an absent folder."""
    import keras
    import tensorflow as tf

    model = float32_model(model)

    def serve(image):
        return {"logits": model(image, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec(shape, "float32", name="image")
    archive.add_endpoint("serving_default", serve, input_signature=[spec])
    archive.write_out(str(path), verbose=False)


def open_saved_model(path: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to logits, as a numpy array."""
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    serve = module.signatures["serving_default"]

    def predict(images):
        # Naming the module keeps it alive; its signature alone does not.
        assert module is not None
        check_images(images, (None, None))
        return serve(image=tf.constant(images, "float32"))["logits"].numpy()

    return predict
