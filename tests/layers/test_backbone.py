import keras
import numpy as np
import pytest

from keras_psp import SGD, DilatedBackbone, PSPNet

IMAGE = np.random.default_rng(0).random((1, 225, 257, 3)).astype("float32")


def application(name):
    make = getattr(keras.applications, name)
    model = make(include_top=False, weights=None, input_shape=(None, None, 3))
    random = np.random.default_rng(0)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.name == "moving_variance":
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
            elif variable.name in ("moving_mean", "beta", "bias"):
                variable.assign(random.normal(0, 0.1, variable.shape))
    return model


@pytest.mark.parametrize(
    ("name", "offset"), [("ResNet50", 0), ("MobileNetV2", 3), ("ConvNeXtTiny", 1)]
)
def test_dilation_preserves_the_features(name, offset):
    # Every fourth position of the dilated map equals the map at stride 32. With strides, Keras'
    # "same" pads only on the right, which shifts the positions.
    model = application(name)
    backbone = DilatedBackbone(model, output_stride=8)
    last = {layer.name: layer for layer in model.operations}[backbone.feature_layers[1]]
    expected = keras.ops.convert_to_numpy(keras.Model(model.input, last.output)(IMAGE))
    auxiliary, features = backbone(IMAGE)
    actual = keras.ops.convert_to_numpy(features)[:, offset::4, offset::4]
    assert features.shape[1:3] in ((29, 33), (28, 32))
    assert auxiliary.shape[1:3] == features.shape[1:3]
    actual = actual[:, : expected.shape[1], : expected.shape[2]]
    assert np.abs(actual - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("MobileNetV3Small", 96),
        ("EfficientNetB0", 320),
        ("EfficientNetV2B0", 192),
        ("DenseNet121", 1024),
        ("Xception", 2048),
    ],
)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_other_families_reach_their_output_stride(name, channels, output_stride):
    model = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    backbone = DilatedBackbone(model, output_stride=output_stride)
    auxiliary, features = backbone.compute_output_spec(keras.KerasTensor((1, 128, 160, 3)))
    assert features.shape[1:3] == (128 // output_stride, 160 // output_stride)
    assert features.shape[3] == channels  # not what their last 1x1 convolution makes of them


@pytest.mark.slow
def test_mobile_network_trains_saves_and_loads(tmp_path):
    model = PSPNet(
        3,
        backbone=keras.applications.MobileNetV3Small(
            include_top=False, weights=None, input_shape=(None, None, 3)
        ),
        bin_sizes=(1, 2),
    )
    assert model.count_params() < 3e6
    # The optimizer uses its head multiplier for the head only.
    optimizer = SGD()
    optimizer.build(model.trainable_variables)
    of_backbone = {id(variable) for variable in model.backbone.trainable_variables}
    for variable, multiplier in zip(model.trainable_variables, optimizer._multipliers, strict=True):
        assert multiplier == (1.0 if id(variable) in of_backbone else 10.0), variable.path
    normalization = model.get_layer("normalization").get_config()
    assert tuple(normalization["std"]) == (1.0, 1.0, 1.0)  # the model normalizes its own input
    model.compile()
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    model.fit(images, np.zeros((2, 64, 64), "int32"), verbose=0)
    model.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(model(images), again(images))


def test_feature_layers_by_name():
    model = application("MobileNetV2")
    backbone = DilatedBackbone(model, feature_layers=("block_5_add", "block_12_add"))
    assert backbone.feature_layers == ("block_5_add", "block_12_add")
    auxiliary, features = backbone(IMAGE)
    assert (auxiliary.shape[-1], features.shape[-1]) == (32, 96)


@pytest.mark.parametrize(
    ("name", "layer", "channels"),
    [("MobileNetV2", "block_12_add", 96), ("EfficientNetB0", "block5c_add", 112)],
)
def test_the_auxiliary_features_come_before_the_expansion_of_a_strided_block(name, layer, channels):
    # As `in_channels=96` of mmsegmentation's pspnet_m-v2-d8 for MobileNetV2.
    backbone = DilatedBackbone(application(name))
    assert backbone.feature_layers[0] == layer
    assert backbone(IMAGE)[0].shape[-1] == channels


def test_weights_and_normalization_of_the_model_are_kept():
    model = application("ResNet50")
    net = PSPNet(3, backbone=model)
    normalization = net.get_layer("normalization").get_config()
    assert normalization["channel_order"] == "bgr"
    kernel = net.backbone.features.get_layer("conv4_block2_2_conv").kernel
    np.testing.assert_array_equal(kernel, model.get_layer("conv4_block2_2_conv").kernel)
    # Also with a custom name or precision.
    named = DilatedBackbone(model, name="mine")
    net = PSPNet(3, backbone=named, dtype="mixed_bfloat16")
    kernel = net.backbone.features.get_layer("conv4_block2_2_conv").kernel
    np.testing.assert_array_equal(kernel, model.get_layer("conv4_block2_2_conv").kernel)


def functional(*layers):
    x = inputs = keras.Input((None, None, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="own")


def test_layers_with_equal_names_in_different_blocks():
    blocks = [
        keras.Sequential(
            [keras.layers.Conv2D(4, 3, stride, padding="same", name="conv")], name=f"block{n}"
        )
        for n, stride in enumerate((2, 2, 2, 2, 1))
    ]
    backbone = DilatedBackbone(functional(*blocks))
    convs = [backbone.features.get_layer(f"block{n}").layers[0] for n in range(5)]
    assert [conv.strides[0] for conv in convs] == [2, 2, 2, 1, 1]
    assert [conv.dilation_rate[0] for conv in convs] == [1, 1, 1, 1, 2]


def test_shared_layers():
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    down = keras.layers.Conv2D(3, 3, 8, padding="same")
    stride = keras.layers.Conv2D(3, 3, 2, padding="same")
    twice = functional(down, shared, stride, shared)
    with pytest.raises(ValueError, match="shared of own is used at two strides"):
        DilatedBackbone(twice)
    middle = keras.layers.Conv2D(3, 3, padding="same", name="middle")
    model = functional(down, shared, middle, shared)
    backbone = DilatedBackbone(model, feature_layers=("middle", "shared"))
    np.testing.assert_allclose(backbone(IMAGE)[1], model(IMAGE), rtol=1e-4, atol=1e-6)
    later = functional(down, shared, middle, shared, keras.layers.ReLU(name="last"))
    with pytest.raises(ValueError, match="calls 'shared' more than once"):
        DilatedBackbone(later, feature_layers=("shared", "last"))


def test_model_with_a_single_strided_layer():
    only = keras.layers.Conv2D(4, 8, 8, padding="same", name="only")
    backbone = DilatedBackbone(functional(only))
    assert backbone.feature_layers == ("only", "only")
    backbone(IMAGE)


def test_invalid_arguments_raise():
    model = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    with pytest.raises(ValueError, match="has no layer 'block_99_add'; it has, for instance,"):
        DilatedBackbone(model, feature_layers=("block_5_add", "block_99_add"))
    with pytest.raises(ValueError, match=r"feature_layers is .*; it must be a sequence of 2"):
        DilatedBackbone(model, feature_layers=("block_5_add",))
    with pytest.raises(ValueError, match="output_stride is 4; choose one of 8, 16, 32"):
        DilatedBackbone(model, output_stride=4)
    with pytest.raises(ValueError, match=r"has 64x64 features .* not 8 as output_stride=32"):
        # This layer comes before the stride that would become dilation.
        DilatedBackbone(model, feature_layers=("block_1_project", "block_2_add"), output_stride=32)
    with pytest.raises(ValueError, match=r"must be a functional keras.Model"):
        DilatedBackbone(keras.layers.Dense(3))
    vector = keras.Input((4,))
    with pytest.raises(ValueError, match=r"has input shape \(None, 4\); a backbone takes images"):
        DilatedBackbone(keras.Model(vector, keras.layers.Dense(3)(vector)))
    inputs = keras.Input((None, None, 3))
    nested = keras.Model(inputs, model(inputs), name="outer")
    with pytest.raises(ValueError, match=r"outer contains the model .*; pass that model itself"):
        DilatedBackbone(nested)
    with pytest.raises(ValueError, match="is a Conv2DTranspose, which can't be dilated"):
        DilatedBackbone(
            functional(
                keras.layers.Conv2D(4, 3, 16, padding="same"),
                keras.layers.Conv2DTranspose(4, 3, 2, name="up"),
            )
        )
    with pytest.raises(ValueError, match="inception_v3"):
        DilatedBackbone(
            keras.applications.InceptionV3(
                include_top=False, weights=None, input_shape=(None, None, 3)
            )
        )
    unknown = keras.Model(inputs, keras.layers.Conv2D(8, 3, 8, padding="same")(inputs), name="own")
    with pytest.raises(ValueError, match="how own normalizes its images isn't known; pass mean="):
        PSPNet(3, backbone=unknown)
    PSPNet(3, backbone=unknown, mean=(0, 0, 0), std=(255, 255, 255), bin_sizes=(1,))
