"""The auxiliary head for deep supervision."""

from typing import Any, Literal

import keras

from keras_psp.arguments import checked_count, checked_integer, checked_number
from keras_psp.layers.convolution import (
    ConvNorm,
    freeze_inner,
    norm_options,
    store_norm_options,
)
from keras_psp.layers.normalization import full_precision
from keras_psp.layers.pyramid import torch_default_initializer


@keras.saving.register_keras_serializable("keras_psp")
class AuxiliaryHead(keras.layers.Layer):
    """Classifier on an inner stage for deep supervision (paper, section 3.3).

    3x3 convolution, BatchNorm, ReLU, channel dropout and a 1x1 convolution to logits
    (semseg/model/pspnet.py, `aux`).

    Args:
        num_classes: number of classes.
        filters: channels of the 3x3 convolution; "auto" is a quarter of the feature channels
            (256 of 1024), at least 64.
        dropout: fraction of the channels to drop in training.
        epsilon, momentum, synchronized: BatchNorm options, see `ConvNorm`.

    Input:  (batch, height, width, channels), the features of an inner stage.
    Output: (batch, height, width, num_classes), float32 logits.

    Example:
        head = AuxiliaryHead(num_classes=21)
        logits = head(keras.random.normal((1, 30, 30, 1024)))  # (1, 30, 30, 21)
    """

    def __init__(
        self,
        num_classes: int,
        *,
        filters: int | Literal["auto"] = "auto",
        dropout: float = 0.1,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        synchronized: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = checked_integer("num_classes", num_classes, least=1)
        self.filters = checked_count("filters", filters, "auto")
        self.dropout_rate = checked_number("dropout", dropout, least=0, below=1)
        store_norm_options(self, epsilon, momentum, synchronized)

    def build(self, input_shape: tuple) -> None:
        filters = max(input_shape[-1] // 4, 64) if self.filters == "auto" else self.filters
        self.conv = ConvNorm(
            filters,
            3,
            kernel_initializer=torch_default_initializer(),
            dtype=self.dtype_policy,
            name="conv",
            **norm_options(self),
        )
        self.conv.build(input_shape)
        self.dropout = keras.layers.SpatialDropout2D(
            self.dropout_rate, data_format="channels_last", dtype=self.dtype_policy, name="dropout"
        )
        self.classifier = classifier(self.num_classes, policy=self.dtype_policy, name="classifier")
        self.classifier.build(self.conv.compute_output_shape(input_shape))
        freeze_inner(self)

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = self.dropout(self.conv(x, training=training), training=training)
        return self.classifier(x)

    def compute_output_spec(self, x: Any, training: bool | None = None) -> keras.KerasTensor:
        shape = (*x.shape[:-1], self.num_classes)
        return keras.KerasTensor(shape, dtype=full_precision(self.dtype_policy))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "filters": self.filters,
            "dropout": self.dropout_rate,
            **norm_options(self),
        }


def classifier(
    num_classes: int, *, policy: keras.DTypePolicy, name: str, kernel_size: int = 1
) -> keras.layers.Conv2D:
    """Convolution to logits in full precision, whatever the precision of the network."""
    return keras.layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        kernel_initializer=torch_default_initializer(),
        data_format="channels_last",
        dtype=full_precision(policy),
        name=name,
    )
