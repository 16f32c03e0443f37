"""Layers made of other layers, whose strides and dilations are changed."""

from collections.abc import Mapping
from typing import Any

import keras


def inner_layers(layer: keras.Operation) -> list[keras.layers.Layer]:
    """The layers inside a layer at every depth, in the order in which they were created."""
    if not isinstance(layer, keras.layers.Layer):  # an operation of keras.ops
        return []
    layer = layer.block if isinstance(layer, DilatedBlock) else layer
    return list(layer._flatten_layers(include_self=False))


@keras.saving.register_keras_serializable("keras_psp")
class DilatedBlock(keras.layers.Layer):
    """A block of another package, in which some layers get another stride, dilation or padding.

    Such a block (e.g. of keras-hub's MobileNet) has no argument for dilation, and its stride also
    determines whether it has a shortcut. The layers inside it are therefore changed directly.

    Args:
        block: the layer, not built yet.
        changes: attributes to set, by the index of the inner layer as a string.

    Input, output: those of the block; the output is larger if strides become dilation.
    """

    def __init__(
        self,
        block: keras.layers.Layer,
        *,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(block, dict):  # from a saved file
            block = keras.saving.deserialize_keras_object(block)
        self.block = block
        self.changes = {number: dict(change) for number, change in (changes or {}).items()}
        inner = inner_layers(block)
        for number, change in self.changes.items():
            layer = inner[int(number)]
            for name, value in change.items():
                pair = (value, value) if isinstance(value, int) else value
                is_padding = isinstance(layer, keras.layers.ZeroPadding2D)
                setattr(layer, name, (pair, pair) if is_padding else pair)

    def call(self, x: Any) -> Any:
        return self.block(x)

    def compute_output_spec(self, x: Any) -> Any:
        return self.block.compute_output_spec(x)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "block": keras.saving.serialize_keras_object(self.block),
            "changes": self.changes,
        }
