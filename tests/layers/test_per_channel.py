import keras
import numpy as np
import pytest

from keras_psp import DilatedBackbone
from keras_psp.layers.per_channel import PerChannelConv2D


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_it_computes_a_grouped_convolution(dilation, padding):
    x = np.random.default_rng(0).normal(size=(2, 13, 11, 4)).astype("float32")
    options = {"groups": 4, "padding": padding, "dilation_rate": dilation, "activation": "relu"}
    layer = PerChannelConv2D(4, 3, bias_initializer="normal", **options)
    y = np.asarray(layer(x))
    assert layer.kernel.shape == (3, 3, 1, 4)
    for channel in range(4):
        plain = keras.layers.Conv2D(1, 3, **{**options, "groups": 1})
        plain.build((2, 13, 11, 1))
        plain.set_weights([layer.kernel.numpy()[..., [channel]], layer.bias.numpy()[[channel]]])
        np.testing.assert_allclose(y[..., [channel]], plain(x[..., [channel]]), atol=1e-6)


def test_backbones_compute_only_convolutions_of_one_group_per_channel_this_way():
    image = x = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=8, padding="same", name="plain")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", groups=8, name="per_channel")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", groups=8, name="widening")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", groups=4, name="grouped")(x)
    model = keras.Model(image, x)
    backbone = DilatedBackbone(model, feature_layers=("plain", "grouped"))
    # Also when it is opened from its configuration.
    for copy in (backbone, DilatedBackbone.from_config(backbone.get_config())):
        kinds = {layer.name: type(layer) for layer in copy.features.layers}
        assert kinds.pop("per_channel") is PerChannelConv2D
        assert PerChannelConv2D not in kinds.values()
    images = np.random.default_rng(0).normal(size=(1, 32, 40, 3)).astype("float32")
    np.testing.assert_allclose(backbone(images)[1], model(images), atol=1e-5)
