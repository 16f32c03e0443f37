"""TensorFlow SavedModel."""

import os
from collections.abc import Callable

import numpy as np

from keras_psp.export.graph import InputType, Output, Signature, inference_function
from keras_psp.export.inference import as_input, export_target, require_tensorflow_backend
from keras_psp.export.metadata import NAME, metadata, metadata_json
from keras_psp.files import written_aside
from keras_psp.models.pspnet import PSPNet


def saved_model(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    preset: str | None = None,
    licence: str | None = None,
) -> None:
    """Write a SavedModel of the network, made for inference.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: folder to write; an existing one is replaced once the new one is whole.
        image_size, batch_size, input_dtype, output: see `Signature`.
        preset, licence: see `metadata`.

    Signature "serving_default": "image" (batch, height, width, 3), RGB 0..255, to "classes"
    (batch, height, width), or to "logits" or "probabilities" (batch, height, width, classes).
    """
    require_tensorflow_backend("A SavedModel")
    signature = Signature(image_size, batch_size, input_dtype, output)
    with written_aside(export_target(path, folder=True)) as aside:
        write_saved_model(model, aside, signature)
        extra = aside / "assets.extra"
        extra.mkdir()
        about = metadata(model, signature, preset=preset, licence=licence)
        (extra / NAME).write_text(metadata_json(about), "utf-8")


def write_saved_model(model, path, signature, *, in_blocks=True):
    """Write the signature "serving_default" to an absent folder."""
    import tensorflow as tf

    serve = tf.function(inference_function(model, signature, in_blocks=in_blocks), autograph=False)
    spec = tf.TensorSpec(signature.shape, signature.input_dtype, name="image")
    traced = serve.get_concrete_function(spec)
    module = tf.Module()
    module.weights = list(traced.graph.variables)
    tf.saved_model.save(module, str(path), signatures={"serving_default": traced})


def open_saved_model(path: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to what was exported, as a numpy array."""
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    serve = module.signatures["serving_default"]
    spec = serve.structured_input_signature[1]["image"]

    def predict(images):
        # Naming the module keeps it alive; its signature alone does not.
        assert module is not None
        images = as_input(images, spec.dtype.as_numpy_dtype, spec.shape[1:3])
        (found,) = serve(image=tf.constant(images)).values()
        return found.numpy()

    return predict
