import h5py
import keras
import numpy as np
import pytest

from keras_psp.layers import DilatedResNet


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 269])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_shapes_of_every_depth_and_stride(depth, output_stride):
    backbone = DilatedResNet(depth, output_stride=output_stride)
    auxiliary, features = backbone.compute_output_shape((2, 73, 96, 3))
    channels = (256, 512) if depth < 50 else (1024, 2048)
    inner = min(output_stride, 16)
    assert auxiliary == (2, -(-73 // inner), -(-96 // inner), channels[0])
    assert features == (2, -(-73 // output_stride), -(-96 // output_stride), channels[1])


def test_depth_269_has_the_blocks_of_caffe():
    assert [len(blocks) for blocks in DilatedResNet(269).stages] == [3, 30, 48, 8]


def rates(backbone, stage):
    """Dilation of the 3x3 convolution in each block of a stage (2 to 5)."""
    return [block.convs[1].conv.dilation_rate[0] for block in backbone.stages[stage - 2]]


def test_dilation_replaces_stride():
    at8, at16 = DilatedResNet(50), DilatedResNet(50, output_stride=16)
    assert (rates(at8, 4), rates(at8, 5)) == ([2] * 6, [4] * 3)
    assert (rates(at16, 4), rates(at16, 5)) == ([1] * 6, [2] * 3)


def test_contract_dilation_halves_the_dilation_of_first_blocks():
    backbone = DilatedResNet(50, contract_dilation=True)
    assert (rates(backbone, 4), rates(backbone, 5)) == ([1] + [2] * 5, [2, 4, 4])


def test_stride_in_1x1_moves_the_stride():
    def strides(backbone):
        return [conv.conv.strides[0] for conv in backbone.stages[1][0].convs]

    assert strides(DilatedResNet(50)) == [1, 2, 1]
    assert strides(DilatedResNet(50, stride_in_1x1=True)) == [2, 1, 1]


def test_stems():
    deep, plain = DilatedResNet(50), DilatedResNet(50, stem_filters=(64,))
    assert [(c.conv.filters, c.conv.kernel_size[0]) for c in deep.stem] == [
        (64, 3),
        (64, 3),
        (128, 3),
    ]
    assert [(c.conv.filters, c.conv.kernel_size[0]) for c in plain.stem] == [(64, 7)]


def test_resnet50_has_as_many_parameters_as_torchvisions():
    # torchvision's resnet50 without its classifier: 25,557,032 - 2,049,000, all trainable.
    backbone = DilatedResNet(50, stem_filters=(64,))
    backbone.build((None, None, None, 3))
    assert sum(np.prod(v.shape) for v in backbone.trainable_variables) == 25_557_032 - 2_049_000


def test_dilation_keeps_the_undilated_features():
    """At stride 8, every 4th position of stage 5 equals its value at stride 32.

    This needs half the dilation in the first block of each dilated stage, because the stride
    that is replaced comes after its 3x3 convolution.
    """
    x = np.random.default_rng(0).normal(size=(1, 97, 129, 3)).astype("float32")
    # In a bottleneck the stride is in the 3x3 convolution, so contraction keeps its taps.
    strided = DilatedResNet(50, output_stride=32)
    dilated = DilatedResNet(50, output_stride=8, contract_dilation=True)
    expected = strided(x)[1]
    dilated(x)
    dilated.set_weights(strided.get_weights())
    actual = dilated(x)[1][:, ::4, ::4]
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.ptp(expected))


def test_config_round_trip():
    backbone = DilatedResNet(
        34, output_stride=16, stem_filters=(32, 32, 64), use_bias=True, epsilon=1e-3
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(backbone))
    assert again.get_config() == backbone.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 20}, "depth is 20; choose one of 18, 34, 50, 101, 152, 269"),
        ({"output_stride": 4}, "output_stride is 4; choose one of 8, 16, 32"),
        ({"stem_filters": (64, 64)}, "has 2 values; give one"),
        ({"dilations": (1, 3, 1, 1)}, r"dilations=\(1, 3, 1, 1\): strides=2 and dilation_rate=3"),
        ({"use_bias": 1}, "use_bias is 1; it must be True or False"),
        ({"epsilon": 0}, "epsilon is 0; it must be a finite number > 0"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        DilatedResNet(**arguments)


def test_weights_file_contains_every_weight_in_any_keras_version(tmp_path):
    # Keras before 3.15 silently omits lists of lists, here the blocks of the stages.
    image = keras.Input((None, None, 3))
    model = keras.Model(image, DilatedResNet(18, stem_filters=(8,), name="backbone")(image))
    model.save_weights(tmp_path / "model.weights.h5")
    sizes = {}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda path, item: sizes.update({path: getattr(item, "size", 0)}))
    assert sum(sizes.values()) == model.count_params()
    assert "layers/dilated_res_net/stages/container_1/__residual_block/convs" in sizes


def test_modules_without_keras_know_the_depths():
    from keras_psp.imagenet import RESNET_DEPTHS
    from keras_psp.layers.resnet import BLOCKS

    assert tuple(BLOCKS) == RESNET_DEPTHS
