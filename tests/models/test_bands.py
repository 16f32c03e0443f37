import keras
import numpy as np
import pytest
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import DilatedBackbone, PSPNet
from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD
from keras_psp.models.bands import (
    adapted_kernel,
    image_statistics,
    measured_normalization,
    normalize_bands,
    with_input_channels,
)

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 3, 5)).astype("float32")


def small_model(*first):
    """A functional model of RGB images with random weights."""
    image = keras.Input((None, None, 3))
    x = image
    for layer in first:
        x = layer(x)
    x = keras.layers.Conv2D(8, 3, 2, "same", name="stem")(x)
    x = keras.layers.Conv2D(16, 3, 2, "same", name="second")(x)
    x = keras.layers.Conv2D(16, 3, 2, "same", name="last")(x)
    return keras.Model(image, x, name="small")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_equal_channels_give_what_a_repeated_gray_image_gives(channels):
    gray = RNG.normal(size=(1, 9, 8, 1)).astype("float32")
    rgb, bands = (np.repeat(gray, n, axis=-1) for n in (3, channels))
    expected = keras.ops.conv(rgb, KERNEL, padding="same")
    values = keras.ops.conv(bands, adapted_kernel(KERNEL, channels), padding="same")
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_the_first_three_bands_keep_their_kernels_and_others_get_the_mean():
    adapted = adapted_kernel(KERNEL, 4)
    np.testing.assert_allclose(adapted[:, :, :3], 0.75 * KERNEL, rtol=1e-6)
    np.testing.assert_allclose(adapted[:, :, 3], 0.75 * KERNEL.mean(2), rtol=1e-5)
    np.testing.assert_allclose(
        adapted_kernel(KERNEL, 4, bgr=True)[:, :, 0], 0.75 * KERNEL[:, :, 2], rtol=1e-6
    )


def test_measured_bands_become_what_a_backbone_expects_of_photos():
    mean, std = (3000.0, 50.0), (700.0, 9.0)
    torch = {"mean": (116.28,) * 2, "std": (57.0,) * 2}
    average = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3
    for expected in (torch, {"mean": (0.0,) * 2, "std": (1.0,) * 2}):
        arguments = measured_normalization(expected, mean, std)
        for band in (0, 1):
            # A band's mean plus one deviation, and a photo's.
            value = mean[band] + std[band]
            photo = (average[0] + average[1] - expected["mean"][band]) / expected["std"][band]
            ours = (value - arguments["mean"][band]) / arguments["std"][band]
            assert ours == pytest.approx(photo)


def test_networks_of_five_channels_train_save_and_open(tmp_path):
    channels = 5
    model = tiny_pspnet(3, input_channels=channels, aux_weight=0.4)
    assert model.input_shape == (None, None, None, channels)
    images = RNG.uniform(0, 255, (2, 48, 48, channels)).astype("float32")
    masks = RNG.integers(0, 3, (2, 48, 48))
    model.compile(keras.optimizers.SGD(0.01))
    model.fit(images, masks, verbose=0)
    model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras")
    assert opened.input_channels == channels
    np.testing.assert_array_equal(opened.predict_classes(images), model.predict_classes(images))


def test_three_channels_are_no_part_of_the_configuration():
    assert "input_channels" not in tiny_pspnet().get_config()


@pytest.mark.parametrize("channels", [1, 4])
def test_a_keras_model_is_adapted(channels):
    source = small_model(keras.layers.Rescaling(1 / 127.5, offset=-1))
    model = PSPNet(2, backbone=source, output_stride=8, bin_sizes=(1,), input_channels=channels)
    gray = RNG.uniform(0, 255, (1, 40, 32, 1)).astype("float32")
    rgb, bands = (np.repeat(gray, n, axis=-1) for n in (3, channels))
    expected = keras.ops.convert_to_numpy(source(rgb))
    features = keras.ops.convert_to_numpy(model.backbone(bands)[1])
    assert np.abs(features - expected).max() <= 1e-5 * np.ptp(expected)


def test_vgg_by_name_takes_four_bands_in_rgb_order():
    source = keras.applications.VGG16(include_top=False, weights=None)
    model = PSPNet(2, backbone=source, input_channels=4, aux_weight=0)
    kernel = model.backbone.features.get_layer("block1_conv1").kernel
    np.testing.assert_allclose(
        kernel[:, :, 0], 0.75 * source.get_layer("block1_conv1").kernel[:, :, 2], rtol=1e-6
    )
    layer = model.get_layer("normalization")
    np.testing.assert_allclose(layer.mean, (123.68, 116.779, 103.939, 114.7993), rtol=1e-5)
    assert layer.channel_order == "rgb"


def test_models_that_normalize_colors_themselves_are_refused():
    colors = small_model(keras.layers.Rescaling([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="small can't be adapted to input_channels=4"):
        with_input_channels(colors, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_channels": 0}, "input_channels is 0; it must be an integer >= 1"),
        (
            {"input_channels": 4, "input_shape": (64, 64, 3)},
            r"input_shape is \(64, 64, 3\); it must be \(height, width, 4\)",
        ),
        ({"input_channels": 1, "mean": (1, 2, 3)}, "mean is .* sequence of 1 values"),
        (
            {"input_channels": 4, "channel_order": "bgr"},
            "channel_order='bgr' is for three channels, not 4",
        ),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_pspnet(**arguments)


def test_a_backbone_with_weights_for_other_channels_is_refused():
    backbone = tiny_backbone(name="backbone")
    backbone.build((None, None, None, 3))
    with pytest.raises(ValueError, match="input_channels=4, but the backbone given takes 3"):
        tiny_pspnet(backbone=backbone, input_channels=4)


def test_images_of_other_channels_are_refused():
    model = tiny_pspnet(input_channels=4)
    with pytest.raises(ValueError, match=r"this PSPNet takes batches \(batch, height, width, 4\)"):
        model.predict(np.zeros((1, 48, 48, 3), "float32"))
    with pytest.raises(ValueError, match="or make a PSPNet"):
        tiny_pspnet().predict(np.zeros((1, 48, 48, 5), "float32"))


def test_images_of_backbones_that_scale_them_are_padded_with_their_mean_too():
    usual = tiny_pspnet()
    np.testing.assert_allclose(image_statistics(usual), (IMAGENET_MEAN, IMAGENET_STD))
    options = {"backbone": "mobilenet_v3_small", "output_stride": 16, "bin_sizes": (1,)}
    scaling = PSPNet(3, **options)
    assert scaling.get_layer("normalization").mean == (0.0, 0.0, 0.0)
    np.testing.assert_allclose(image_statistics(scaling), (IMAGENET_MEAN, IMAGENET_STD))
    gray = PSPNet(3, **options, input_channels=1)
    normalize_bands(gray, (60.0,), (20.0,))
    np.testing.assert_allclose(image_statistics(gray), [[60.0], [20.0]])
    images = keras.Input((None, None, 3))
    features = keras.Model(images, keras.layers.Conv2D(4, 3, strides=8, padding="same")(images))
    of_255 = {"mean": (0.0,) * 3, "std": (255.0,) * 3}
    backbone = DilatedBackbone(features, output_stride=8, normalization=of_255)
    model = PSPNet(3, backbone=backbone, bin_sizes=(1,), aux_weight=0)
    np.testing.assert_allclose(image_statistics(model), (IMAGENET_MEAN, IMAGENET_STD))
