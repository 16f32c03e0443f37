import keras
import numpy as np
import pytest

from keras_psp import DilatedBackbone
from keras_psp.layers.dilated_block import DilatedBlock, inner_layers

array = keras.ops.convert_to_numpy
IMAGE = np.random.default_rng(0).random((1, 65, 81, 3)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):
    """A strided convolution and one more, as keras-hub's blocks have them."""

    def __init__(self, strides, **kwargs):
        super().__init__(**kwargs)
        self.strides = strides
        self.pad = keras.layers.ZeroPadding2D(2)
        self.first = keras.layers.Conv2D(4, 5, strides=strides, padding="valid")
        self.norm = keras.layers.BatchNormalization()
        self.second = keras.layers.Conv2D(4, 3, padding="same")

    def build(self, shape):
        for layer in (self.pad, self.first, self.norm, self.second):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, x):
        y = self.second(self.norm(self.first(self.pad(x))))
        return x + y if self.strides == 1 else y

    def get_config(self):
        return {**super().get_config(), "strides": self.strides}


@keras.saving.register_keras_serializable("tests")
class Branches(keras.layers.Layer):
    """Two strided convolutions beside each other."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left = keras.layers.Conv2D(4, 3, strides=2, padding="same")
        self.right = keras.layers.Conv2D(4, 3, strides=2, padding="same")

    def call(self, x):
        return self.left(x) + self.right(x)


def network(*blocks):
    x = inputs = keras.Input((None, None, 3))
    for number, block in enumerate(blocks):
        block.name = f"block{number}"
        x = block(x)
    return keras.Model(inputs, x, name="blocks")


def test_strides_inside_a_layer_become_dilation():
    model = network(*(Block(strides) for strides in (4, 1, 2, 2, 1, 2)))
    backbone = DilatedBackbone(model)
    assert backbone.feature_layers == ("block4", "block5")
    inner = [inner_layers(backbone.features.get_layer(f"block{n}")) for n in range(6)]
    assert [layers[1].strides[0] for layers in inner] == [4, 1, 2, 1, 1, 1]
    # A block's strided convolution still has the dilation before it.
    assert [layers[1].dilation_rate[0] for layers in inner] == [1, 1, 1, 1, 2, 2]
    assert [layers[3].dilation_rate[0] for layers in inner] == [1, 1, 1, 2, 2, 4]
    expected = array(model(IMAGE))
    auxiliary, features = backbone(IMAGE)
    assert auxiliary.shape == features.shape == (1, 9, 11, 4)
    actual = array(features)[:, ::4, ::4]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.ptp(expected))


def test_a_saved_block_keeps_its_dilation(tmp_path):
    backbone = DilatedBackbone(network(Block(4), Block(2), Block(2), Block(2)))
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, backbone(inputs)).save(tmp_path / "blocks.keras")
    again = keras.saving.load_model(tmp_path / "blocks.keras")
    for ours, theirs in zip(again(IMAGE), backbone(IMAGE), strict=True):
        np.testing.assert_array_equal(array(ours), array(theirs))


def test_a_dilated_block_is_dilated_further():
    model = network(Block(4), Block(2), Block(2), Block(2))
    half = DilatedBackbone(model, output_stride=16, feature_layers=("block2", "block3"))
    whole = DilatedBackbone(half.features, output_stride=8, feature_layers=("block2", "block3"))
    for features in (half.features, whole.features):
        assert all(type(features.get_layer(f"block{n}")) is DilatedBlock for n in range(4))
    expected = array(DilatedBackbone(model)(IMAGE)[1])
    np.testing.assert_allclose(array(whole(IMAGE)[1]), expected, rtol=1e-4, atol=1e-5)


def test_precision_and_synchronization_reach_inside():
    model = network(Block(4), Block(2))
    backbone = DilatedBackbone(model, synchronized=True, dtype="mixed_bfloat16")
    pad, conv, norm, _ = inner_layers(backbone.features.get_layer("block1"))
    assert norm.synchronized and not inner_layers(model.get_layer("block1"))[2].synchronized
    assert conv.compute_dtype == "bfloat16" and pad.compute_dtype == "bfloat16"


def test_branches_inside_a_layer_are_refused():
    model = network(Block(4), Branches(), Branches())
    with pytest.raises(ValueError, match="block1 of blocks, a Branches, isn't a chain of convolu"):
        DilatedBackbone(model, output_stride=8)
