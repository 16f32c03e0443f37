"""TensorFlow SavedModel."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_psp.arguments import checked_flag, checked_integer
from keras_psp.export.graph import (
    MAX_PIXELS,
    MAX_SIDE,
    InputType,
    Output,
    Signature,
    channels_of_network,
    inference_function,
    takes_photos,
)
from keras_psp.export.inputs import graph_function
from keras_psp.export.metadata import NAME, metadata, metadata_json
from keras_psp.export.writing import checked_export, require_tensorflow_backend
from keras_psp.files import local_path
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

FILES = ("saved_model.pb", "variables", "assets", "assets.extra", "fingerprint.pb")
"""What a SavedModel of keras_psp consists of."""


def saved_model(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    winograd: bool = True,
    max_pixels: int = MAX_PIXELS,
    preset: str | None = None,
    license: str | None = None,
) -> None:
    """Writes a SavedModel of the network, optimized for inference.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: folder to write; an existing export is replaced once the new one is complete. For
            a folder that a server watches, use `tf_serving`.
        image_size, batch_size, input_dtype, output: see `Signature`.
        winograd: see `onnx`.
        max_pixels: the largest image, in pixels, that "serve_bytes" decodes.
        preset, license: see `metadata`.

    Signature "serving_default": see `Signature`.

    Signature "serve_bytes", only for networks of RGB 0..255: "image_bytes" (batch,), JPEG or PNG
    of any sizes, to "classes_png_bytes" (batch,): class indices as grayscale PNG at each image's
    own size, whatever the `output`, with 8 bits, or 16 for more than 256 classes. With an
    `image_size`, images of any proportions are resized to it (antialiased), and their scores are
    resized back.
    """
    require_tensorflow_backend("A SavedModel")
    import tensorflow as tf

    from keras_psp.export.image_bytes import bytes_function, checked_images

    signature = Signature(image_size, batch_size, input_dtype, output, channels_of_network(model))
    winograd = checked_flag("winograd", winograd)
    max_pixels = checked_integer("max_pixels", max_pixels, least=1)
    with checked_export(
        path, "SavedModel", open_saved_model, model, signature, files=FILES
    ) as draft:
        network = inference_function(model, winograd=winograd)
        images = tf.TensorSpec(signature.shape, signature.input_dtype, name="image")
        contents = tf.TensorSpec((None,), "string", name="image_bytes")
        smallest = smallest_side(model)
        functions: dict[str, Any] = {
            "serving_default": (lambda x: network(checked_images(x, smallest), output), images)
        }
        if takes_photos(model):
            serve = bytes_function(model, network, signature, max_pixels)
            functions["serve_bytes"] = serve, contents
        save_signatures(draft, **functions)
        extra = draft / "assets.extra"
        extra.mkdir()
        about = metadata(model, signature, preset=preset, license=license)
        if takes_photos(model):
            about["serve_bytes"] = {
                "input": "image_bytes: JPEG or PNG, (batch,) strings",
                "output": "classes_png_bytes: class index of each pixel, grayscale PNG",
                "max_pixels": max_pixels,
                "max_side": MAX_SIDE,
            }
        (extra / NAME).write_text(metadata_json(about), "utf-8")


def save_signatures(path: str | os.PathLike, **functions: Any) -> None:
    """Writes a SavedModel of traced functions; each argument is (function, its TensorSpec)."""
    import tensorflow as tf

    signatures = {
        name: tf.function(function, autograph=False).get_concrete_function(spec)
        for name, (function, spec) in functions.items()
    }
    module = tf.Module()
    variables = {id(v): v for traced in signatures.values() for v in traced.graph.variables}
    module.weights = list(variables.values())
    tf.saved_model.save(module, str(path), signatures=signatures)


def open_saved_model(path: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images (batch, height, width, channels) to the output."""
    import tensorflow as tf

    path = local_path("path", path)
    if not (path / FILES[0]).is_file():
        raise FileNotFoundError(f"{path} has no {FILES[0]}; give the folder of an export.")
    module = tf.saved_model.load(str(path))
    serve = module.signatures["serving_default"]
    spec = serve.structured_input_signature[1]["image"]

    def run(batch):
        # Naming the module keeps it alive; its signature alone does not.
        assert module is not None
        return next(iter(serve(image=tf.constant(batch)).values())).numpy()

    return graph_function(run, spec.shape.as_list(), spec.dtype.as_numpy_dtype)
