import json
import sys

import keras
import numpy as np
import pytest

from keras_psp import DilatedBackbone, PSPNet
from keras_psp.models.hub import hub_model_name

array = keras.ops.convert_to_numpy
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub", reason="keras-hub is not installed")


def tiny_resnet(hub, **arguments):
    defaults = {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 8, 8, 8],
        "stackwise_num_blocks": [1, 2, 2, 1],
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": "basic_block",
    }
    return hub.models.ResNetBackbone(**{**defaults, **arguments})


def saved(hub, folder, *, scale=None, offset=None):
    """Saves a preset of a tiny ResNet with random weights and returns its backbone."""
    model = tiny_resnet(hub)
    model.save_to_preset(str(folder))
    if scale is not None:
        converter = hub.layers.ResNetImageConverter(image_size=(64, 64), scale=scale, offset=offset)
        converter.save_to_preset(str(folder))
    return model


def kernel(model, name="conv1_conv"):
    return array(model.get_layer(name).kernel)


def test_weights_and_normalization_are_those_of_the_preset(hub, tmp_path):
    # scale * image + offset with ImageNet's mean (0.5, 0.4, 0.3) and deviation (0.2, 0.25, 0.5)
    # of images from 0 to 1.
    scale = [1 / 255 / deviation for deviation in (0.2, 0.25, 0.5)]
    source = saved(hub, tmp_path / "tiny_net", scale=scale, offset=[-2.5, -1.6, -0.6])
    name = f"keras_hub:{tmp_path / 'tiny_net'}"
    model = PSPNet(3, backbone=name, weights="imagenet", output_stride=16, bin_sizes=(1, 2))
    np.testing.assert_array_equal(kernel(model.backbone.features), kernel(source))
    assert model.backbone.output_stride == 16
    normalization = model.get_layer("normalization").get_config()
    np.testing.assert_allclose(normalization["mean"], (127.5, 102, 76.5))
    np.testing.assert_allclose(normalization["std"], (51, 63.75, 127.5))
    converter = hub.layers.ImageConverter.from_preset(str(tmp_path / "tiny_net"))
    np.testing.assert_allclose(
        array(model.get_layer("normalization")(IMAGES)),
        array(converter(IMAGES)),
        rtol=1e-5,
        atol=1e-5,
    )
    random = PSPNet(3, backbone=name, bin_sizes=(1, 2))
    assert np.abs(kernel(random.backbone.features) - kernel(source)).max() > 0.01
    assert random.backbone.output_stride == 8
    assert random.get_layer("normalization").get_config()["mean"] == normalization["mean"]


def test_a_trained_network_is_opened_without_the_preset(hub, tmp_path):
    saved(hub, tmp_path / "tiny_net", scale=1 / 255)
    name = f"keras_hub:{tmp_path / 'tiny_net'}"
    model = PSPNet(3, backbone=name, weights="imagenet", bin_sizes=(1, 2), dtype="mixed_bfloat16")
    assert model.backbone.features.get_layer("conv1_conv").compute_dtype == "bfloat16"
    model.compile()
    assert np.isfinite(model.train_on_batch(IMAGES, np.zeros((2, 64, 64), "int32")))
    model.save(tmp_path / "trained.keras")
    (tmp_path / "tiny_net").rename(tmp_path / "elsewhere")
    again = keras.saving.load_model(tmp_path / "trained.keras")
    np.testing.assert_array_equal(array(again(IMAGES)), array(model(IMAGES)))
    assert again.backbone.normalization["std"] == (255.0,) * 3
    # With its name and other classes.
    other = PSPNet(5, backbone=name, weights=tmp_path / "trained.keras")
    np.testing.assert_array_equal(kernel(other.backbone.features), kernel(model.backbone.features))
    with pytest.raises(ValueError, match="have the backbone tiny_net, not keras_hub:resnet_18"):
        PSPNet(5, backbone="keras_hub:resnet_18", weights=tmp_path / "trained.keras")


def test_a_preset_without_an_image_converter_needs_mean_and_std(hub, tmp_path):
    saved(hub, tmp_path / "tiny_net")
    name = f"keras_hub:{tmp_path / 'tiny_net'}"
    with pytest.raises(ValueError, match="how tiny_net normalizes its images isn't known; pass"):
        PSPNet(3, backbone=name)
    model = PSPNet(3, backbone=name, mean=(1, 2, 3), std=(4, 5, 6), bin_sizes=(1, 2))
    assert model.get_layer("normalization").get_config()["std"] == (4.0, 5.0, 6.0)


def test_what_cannot_be_opened_is_refused_with_what_can(hub, tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"has no preset 'resnet_51', .*vgg_16_imagenet.* a folder"
    ):
        PSPNet(3, backbone="keras_hub:resnet_51")
    with pytest.raises(ValueError, match=r"\(CSPNet, .*\) can be dilated, and bert_.* isn't among"):
        PSPNet(3, backbone="keras_hub:bert_tiny_en_uncased")
    vit = hub.models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=16, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4
    )
    vit.save_to_preset(str(tmp_path / "vit"))
    with pytest.raises(ValueError, match=r"can be dilated, and .*vit has a ViTBackbone; choose"):
        PSPNet(3, backbone=f"keras_hub:{tmp_path / 'vit'}")
    (tmp_path / "vit" / "config.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(
        ValueError, match=r"vit can't be opened as a preset of keras-hub .*Unrecogn"
    ):
        PSPNet(3, backbone=f"keras_hub:{tmp_path / 'vit'}")

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(hub.models.Backbone, "from_preset", offline)
    with pytest.raises(ConnectionError, match=r"preset vgg_16_imagenet \(no route to host\); pass"):
        PSPNet(3, backbone="keras_hub:vgg_16_imagenet")


def test_the_name_of_the_model_is_that_of_the_preset():
    assert hub_model_name("keras_hub:resnet_50_imagenet") == "resnet_50_imagenet"
    assert (
        hub_model_name("keras_hub:kaggle://keras/vgg/keras/vgg_16_imagenet/2") == "vgg_16_imagenet"
    )
    assert hub_model_name("keras_hub:hf://timm/resnet18.a1_in1k") == "resnet18.a1_in1k"
    assert hub_model_name("keras_hub:my presets/tiny net/") == "tiny_net"


def test_without_keras_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r'need keras-hub \(.*\); pip install "keras-psp\[keras-'):
        PSPNet(3, backbone="keras_hub:resnet_50_imagenet")


def csp_net(hub, **arguments):
    defaults = {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_depth": [1, 2, 1, 1, 1],
        "stackwise_strides": [2] * 5,
        "stackwise_num_filters": [8] * 5,
        "block_type": "dark_block",
        "bottle_ratio": [0.5, 1, 1, 1, 1],
        "block_ratio": [1, 0.5, 0.5, 0.5, 0.5],
        "expand_ratio": [2, 1, 1, 1, 1],
    }
    return hub.models.CSPNetBackbone(**{**defaults, **arguments})


def efficient_net(hub, kinds):
    return hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[0.25] * 7,
        stackwise_depth_coefficients=[0.5] * 7,
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        stackwise_squeeze_and_excite_ratios=[0.25] * 7,
        stackwise_block_types=kinds,
        min_depth=None,
        use_depth_divisor_as_min_depth=True,
        cap_round_filter_decrease=True,
        dropout=0,
    )


def mobile_net(hub):
    return hub.models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144, 144], [72, 72], [144, 288, 288]],
        stackwise_num_blocks=[2, 3, 2, 3],
        stackwise_num_filters=[[16] * 2, [24] * 3, [24] * 2, [48] * 3],
        stackwise_kernel_size=[[3] * 2, [5] * 3, [5] * 2, [5] * 3],
        stackwise_num_strides=[[2, 1], [2, 1, 1], [1, 1], [2, 1, 1]],
        stackwise_se_ratio=[[None] * 2, [0.25] * 3, [0.3] * 2, [0.3] * 3],
        stackwise_activation=[["relu"] * 2, ["hard_swish"] * 3, ["relu"] * 2, ["relu"] * 3],
        stackwise_padding=[[1] * 2, [2] * 3, [2] * 2, [2] * 3],
        output_num_filters=1024,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=288,
    )


# Where the largest difference isn't one of rounding: squeeze-and-excitation averages maps whose
# positions differ, and Xception's last pooling sees closer pixels.
KINDS = {
    "resnet": (tiny_resnet, 1e-5),
    "resnet_v2": (lambda hub: tiny_resnet(hub, use_pre_activation=True), 1e-5),
    "resnet_vd": (
        lambda hub: tiny_resnet(
            hub,
            input_conv_filters=[8, 8, 64],
            input_conv_kernel_sizes=[3, 3, 3],
            block_type="bottleneck_block_vd",
        ),
        1e-5,
    ),
    "densenet": (lambda hub: hub.models.DenseNetBackbone([2] * 4, growth_rate=4), 1e-5),
    "vgg": (lambda hub: hub.models.VGGBackbone([1] * 5, [4] * 5), 1e-5),
    "xception": (
        lambda hub: hub.models.XceptionBackbone(
            [[8, 8], [16, 16], [24, 24], [32, 32], [32, 32], [40, 40], [48, 56]],
            [False, True, True, True, False, True, False],
        ),
        5e-3,
    ),
    "csp_darknet": (lambda hub: csp_net(hub, stage_type="csp", down_growth=True), 1e-5),
    "darknet": (
        lambda hub: csp_net(
            hub, stage_type="dark", bottle_ratio=[0.5], block_ratio=[1.0], expand_ratio=[1.0]
        ),
        1e-5,
    ),
    "csp_resnet": (
        lambda hub: csp_net(
            hub,
            stem_kernel_size=7,
            stem_strides=4,
            stem_pooling="max",
            stackwise_depth=[1] * 4,
            stackwise_strides=[1, 2, 2, 2],
            stackwise_num_filters=[8] * 4,
            block_type="bottleneck_block",
            stage_type="csp",
            cross_linear=True,
            bottle_ratio=[0.5] * 4,
            block_ratio=[1] * 4,
            expand_ratio=[2] * 4,
        ),
        1e-5,
    ),
    "efficientnet": (lambda hub: efficient_net(hub, ["v1"] * 7), 5e-3),
    "efficientnet_v2": (lambda hub: efficient_net(hub, ["fused"] * 3 + ["unfused"] * 4), 5e-3),
    "efficientnet_lite": (
        lambda hub: efficient_net(hub, ["cba"] * 2 + ["fused"] + ["unfused"] * 4),
        5e-3,
    ),
    "mobilenet": (mobile_net, 1e-4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_dilation_preserves_the_features(hub, kind):
    make, tolerance = KINDS[kind]
    model, random = make(hub), np.random.default_rng(0)
    for variable in model.weights:
        if variable.name == "moving_variance":
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("moving_mean", "beta", "bias"):
            variable.assign(random.normal(0, 0.1, variable.shape))
    image = random.random((1, 161, 161, 3)).astype("float32")
    backbone = DilatedBackbone(model, output_stride=16)
    last = {layer.name: layer for layer in model.operations}[backbone.feature_layers[1]]
    expected = array(keras.Model(model.input, last.output)(image))
    # Every second position of the dilated map equals the map at stride 32, where the pooling is at
    # stride 16 or before.
    actual = array(backbone(image)[1])[:, ::2, ::2]
    actual = actual[:, : expected.shape[1], : expected.shape[2]]
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.ptp(expected)
    spec = DilatedBackbone(model, output_stride=8).compute_output_spec(
        keras.KerasTensor((1, 128, 96, 3))
    )
    assert [tuple(map.shape[1:3]) for map in spec] == [(16, 12)] * 2
