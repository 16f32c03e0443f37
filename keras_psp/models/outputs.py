"""What a call of PSPNet returns.

call of the model                     returns
------------------------------------  -----------------------------------------
training=True                         {"logits", "auxiliary"} before upsampling
inside `low_resolution_outputs()`     logits at the output stride
anything else, or a layer of another  logits at the images' size
model
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_psp.layers.chunks import upsampled_classes
from keras_psp.layers.pyramid import PyramidPoolingModule
from keras_psp.layers.resampling import spatial_size

# Context variables, not attributes: replicas are threads that take turns in the middle of a step.
_LOW_RESOLUTION = contextvars.ContextVar("low_resolution", default=False)
# The model whose `__call__` leads to the running `call`.
_CALLED = contextvars.ContextVar[Any]("called", default=None)


@contextlib.contextmanager
def low_resolution_outputs() -> Iterator[None]:
    """Makes calls without training return logits at the output stride, in this thread only."""
    token = _LOW_RESOLUTION.set(True)
    try:
        yield
    finally:
        _LOW_RESOLUTION.reset(token)


def returns_low_resolution() -> bool:
    """Whether the running call is inside `low_resolution_outputs()`."""
    return _LOW_RESOLUTION.get()


@contextlib.contextmanager
def called(model: keras.Model) -> Iterator[None]:
    """Records that the block runs the model's `__call__`."""
    token = _CALLED.set(model)
    try:
        yield
    finally:
        _CALLED.reset(token)


def is_outermost(model: keras.Model) -> bool:
    """Whether the running `call` is the user's own, not that of a layer inside another model."""
    # Keras' JAX trainer calls `call` directly; asking for the call context there would create
    # one that nothing closes.
    return _CALLED.get() is not model or model._get_call_context().entry_layer is model


class ClassMap(keras.layers.Layer):
    """Computes the class of every pixel, without storing all scores at full size.

    Args:
        align_corners: see `keras_psp.layers.resampling.source_position`.

    Input:  [logits, images]: (batch, h, w, classes) and (batch, height, width, channels).
    Output: (batch, height, width) int32.
    """

    def __init__(self, *, align_corners: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.align_corners = align_corners

    def call(self, inputs: Any) -> Any:
        logits, images = inputs
        return upsampled_classes(logits, spatial_size(images), align_corners=self.align_corners)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs[1].shape[:-1], dtype="int32")


class FusionTerms(keras.layers.Layer):
    """Computes the terms that the fusion convolution of a pyramid adds up, in inference.

    Args:
        pyramid: the layer whose weights are used.

    Input:  (batch, height, width, channels), the features.
    Output: a list of the features' term, (batch, height, width, filters), and of the levels
        before they are upsampled and convolved, (batch, bins, bins, channels) each.
    """

    def __init__(self, pyramid: PyramidPoolingModule, **kwargs: Any):
        super().__init__(dtype=pyramid.dtype_policy, **kwargs)
        self.pyramid = pyramid

    def call(self, features: Any) -> Any:
        term = self.pyramid.fusion.features_term(features)
        return [term, *self.pyramid.levels(features, training=False)]

    def compute_output_spec(self, features: Any) -> list[keras.KerasTensor]:
        fusion, batch = self.pyramid.fusion, features.shape[0]
        shapes = [(*features.shape[:-1], fusion.filters)]
        channels = np.diff(fusion.edges)[1:].tolist()
        for bins, count in zip(self.pyramid.bin_sizes, channels, strict=True):
            shapes.append((batch, bins, bins, count))
        return [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes]
