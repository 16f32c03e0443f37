"""TensorFlow SavedModel."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_psp.export.graph import (
    InputType,
    Output,
    Signature,
    check_network,
    folded_network,
    inference_function,
)
from keras_psp.export.image_bytes import (
    MAX_PIXELS,
    MAX_SIDE,
    bytes_function,
    checked_images,
)
from keras_psp.export.inference import (
    as_input,
    export_target,
    in_batches,
    require_tensorflow_backend,
)
from keras_psp.export.metadata import NAME, metadata, metadata_json
from keras_psp.export.trial import check_output
from keras_psp.files import written_aside
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

PARTS = (
    "saved_model.pb",
    "variables",
    "assets",
    "assets.extra",
    "fingerprint.pb",
)
"""What a SavedModel of ours consists of."""


def saved_model(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    max_pixels: int = MAX_PIXELS,
    preset: str | None = None,
    licence: str | None = None,
) -> None:
    """Write a SavedModel of the network, made for inference.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: folder to write; an existing one is replaced once the new one is whole. A folder
            that a server watches is for `tf_serving`.
        image_size, batch_size, input_dtype, output: see `Signature`.
        max_pixels: the most pixels of a picture that "serve_bytes" decodes.
        preset, licence: see `metadata`.

    Signature "serving_default": "image" (batch, height, width, 3), RGB 0..255, to "classes"
    (batch, height, width), or to "logits" or "probabilities" (batch, height, width, classes).

    Signature "serve_bytes": "image_bytes" (batch,), JPEG or PNG of any sizes, to
    "classes_png_bytes" (batch,): class indices as grey PNG at each picture's own size, whatever
    `output` says; see `image_bytes.bytes_function`.
    """
    require_tensorflow_backend("A SavedModel")
    signature = Signature(image_size, batch_size, input_dtype, output)
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise ValueError(
            f"max_pixels={max_pixels!r} must be a positive integer, as {MAX_PIXELS:,}."
        )
    check_network(model, signature)
    with written_aside(export_target(path, own=PARTS)) as aside:
        _write(model, aside, signature, max_pixels)
        extra = aside / "assets.extra"
        extra.mkdir()
        about = metadata(model, signature, preset=preset, licence=licence)
        about["serve_bytes"] = {
            "input": "image_bytes: JPEG or PNG, (batch,) strings",
            "output": "classes_png_bytes: index of the class of every pixel, grey PNG",
            "max_pixels": max_pixels,
            "max_side": MAX_SIDE,
        }
        (extra / NAME).write_text(metadata_json(about), "utf-8")
        check_output("SavedModel", lambda: open_saved_model(aside), model, signature)


def _write(model, path, signature, max_pixels):
    """Both signatures over the same weights."""
    import tensorflow as tf

    network = folded_network(model)

    def serving_default(image):
        return network(checked_images(image, smallest_side(model)), signature.output)

    images = tf.TensorSpec(signature.shape, signature.input_dtype, name="image")
    contents = tf.TensorSpec((None,), "string", name="image_bytes")
    serve_bytes = bytes_function(model, network, signature, max_pixels=max_pixels)
    _save(
        path,
        serving_default=_traced(serving_default, images),
        serve_bytes=_traced(serve_bytes, contents),
    )


def write_saved_model(model, path, signature, *, in_blocks=True):
    """Write the signature "serving_default" alone, unchecked, to an absent folder."""
    import tensorflow as tf

    spec = tf.TensorSpec(signature.shape, signature.input_dtype, name="image")
    serve = inference_function(model, signature, in_blocks=in_blocks)
    _save(path, serving_default=_traced(serve, spec))


def _traced(function, spec):
    import tensorflow as tf

    return tf.function(function, autograph=False).get_concrete_function(spec)


def _save(path, **signatures):
    import tensorflow as tf

    module = tf.Module()
    variables = {id(v): v for traced in signatures.values() for v in traced.graph.variables}
    module.weights = list(variables.values())
    tf.saved_model.save(module, str(path), signatures=signatures)


def open_saved_model(path: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to what was exported, as a numpy array."""
    import tensorflow as tf

    if not (Path(path) / PARTS[0]).is_file():
        raise FileNotFoundError(f"{path}: there is no {PARTS[0]}; give a folder of an export.")
    module = tf.saved_model.load(str(path))
    serve = module.signatures["serving_default"]
    spec = serve.structured_input_signature[1]["image"]
    batch = spec.shape[0]

    def predict(images):
        # Naming the module keeps it alive; its signature alone does not.
        assert module is not None
        images = as_input(images, spec.dtype.as_numpy_dtype, spec.shape[1:3])
        parts = [images] if batch is None else in_batches(images, batch)
        return np.concatenate(
            [next(iter(serve(image=tf.constant(part)).values())).numpy() for part in parts]
        )

    return predict
