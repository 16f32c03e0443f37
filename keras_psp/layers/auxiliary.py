"""The deeply supervised auxiliary head."""

from typing import Literal

import keras

from keras_psp.layers.convolution import ConvNorm, freeze_inner
from keras_psp.layers.normalization import full_precision
from keras_psp.layers.pyramid import torch_default_initializer


@keras.saving.register_keras_serializable("keras_psp")
class AuxiliaryHead(keras.layers.Layer):
    """Deep supervision on an inner stage (paper, section 3.3).

    3x3 convolution, BatchNorm, ReLU, channel dropout, 1x1 classifier
    (semseg/model/pspnet.py, `aux`).

    Args:
        num_classes: classes scored per position.
        filters: channels of the 3x3 convolution, 256 for 1024 feature channels; "auto"
            is a quarter of the feature channels.
        dropout: share of channels dropped in training.
        epsilon, momentum, synchronized: of BatchNorm, see `ConvNorm`.

    Input:  (batch, height, width, channels), features at the output stride.
    Output: (batch, height, width, num_classes), float32 logits.
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.filters = filters
        self.dropout_rate = dropout
        self.epsilon = epsilon
        self.momentum = momentum
        self.synchronized = synchronized

    def build(self, input_shape):
        filters = input_shape[-1] // 4 if self.filters == "auto" else self.filters
        self.conv = ConvNorm(
            filters,
            3,
            kernel_initializer=torch_default_initializer(),
            epsilon=self.epsilon,
            momentum=self.momentum,
            synchronized=self.synchronized,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build(input_shape)
        self.dropout = keras.layers.SpatialDropout2D(
            self.dropout_rate, data_format="channels_last", dtype=self.dtype_policy, name="dropout"
        )
        self.classifier = classifier(self.num_classes, policy=self.dtype_policy, name="classifier")
        self.classifier.build(self.conv.compute_output_shape(input_shape))
        freeze_inner(self)
        self.built = True

    def call(self, x, training=None):
        x = self.dropout(self.conv(x, training=training), training=training)
        return self.classifier(x)

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(
            (*x.shape[:-1], self.num_classes), dtype=full_precision(self.dtype_policy)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "filters": self.filters,
            "dropout": self.dropout_rate,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "synchronized": self.synchronized,
        }


def classifier(num_classes, *, policy, name, kernel_size=1):
    """Convolution to full-precision logits, whatever the precision of the network."""
    return keras.layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        kernel_initializer=torch_default_initializer(),
        data_format="channels_last",
        dtype=full_precision(policy),
        name=name,
    )
