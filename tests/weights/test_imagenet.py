from pathlib import Path

import keras
import numpy as np
import pytest
from support import checkpoints

from keras_psp import DilatedResNet, PSPNet
from keras_psp.weights import read_checkpoint
from keras_psp.weights.families.imagenet import APPLICATIONS
from keras_psp.weights.imagenet import applications_tensors
from keras_psp.weights.transfer import BackboneWeights

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize("depth", [50, 101])
def test_features_at_output_stride_32_equal_keras_applications(depth):
    make = getattr(keras.applications, f"ResNet{depth}")
    theirs = make(include_top=False, weights=None, input_shape=(None, None, 3))
    checkpoints.randomize(theirs)
    source = BackboneWeights(APPLICATIONS, applications_tensors(theirs), "imagenet", {})
    backbone = source.arguments["backbone"]
    config = {**backbone.get_config(), "output_stride": 32}
    given = {"num_classes": 3, "backbone": DilatedResNet.from_config(config)}
    source = BackboneWeights(APPLICATIONS, source.tensors, "imagenet", given)
    model = PSPNet(**source.arguments)
    source.load(model)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 97, 129, 3)).astype("float32")
    expected = theirs(keras.applications.resnet50.preprocess_input(pixels.copy()))
    features = model.backbone(model.get_layer("normalization")(pixels))[1]
    expected, features = (keras.ops.convert_to_numpy(x) for x in (expected, features))
    assert expected.std() > 0
    assert np.abs(features - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.skipif(not DATA.exists(), reason=f"real weights and photos are not at {DATA}")
def test_features_of_photos_with_real_imagenet_weights_equal_keras_applications():
    from PIL import Image

    path = DATA / "weights" / "resnet50_imagenet_conv1_conv4.npz"
    tensors = read_checkpoint(path).tensors
    theirs = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(None, None, 3)
    )
    theirs = keras.Model(theirs.input, theirs.get_layer("conv4_block6_out").output)
    for layer in theirs.layers:
        layer.set_weights(
            [
                np.asarray(tensors.get(f"{layer.name}/{w.name}", np.zeros(w.shape)), "float32")
                for w in layer.weights
            ]
        )
    backbone = DilatedResNet(
        50, stem_filters=(64,), stride_in_1x1=True, num_stages=3, output_stride=16, epsilon=1.001e-5
    )
    model = PSPNet(2, backbone=backbone, weights=path)
    photos = sorted((DATA / "photos").glob("*.[jp][pn]g"))
    assert len(photos) == 6
    for photo in photos:
        pixels = np.asarray(Image.open(photo).convert("RGB"), "float32")[None]
        prepared = keras.applications.resnet50.preprocess_input(pixels.copy())
        expected = keras.ops.convert_to_numpy(theirs(prepared))
        normalized = model.get_layer("normalization")(pixels)
        features = keras.ops.convert_to_numpy(model.backbone(normalized)[1])
        assert features.shape == expected.shape
        assert np.abs(features - expected).max() <= 1e-4 * np.ptp(expected), photo.name


@pytest.mark.skipif(not DATA.exists(), reason=f"real weights and photos are not at {DATA}")
def test_gray_photos_give_what_they_give_repeated_in_rgb():
    from PIL import Image

    path = DATA / "weights" / "resnet50_imagenet_conv1_conv4.npz"
    backbone = {
        "stem_filters": (64,),
        "stride_in_1x1": True,
        "num_stages": 3,
        "output_stride": 16,
        "epsilon": 1.001e-5,
    }
    gray = PSPNet(2, backbone=DilatedResNet(50, **backbone), weights=path, input_channels=1)
    layer = gray.get_layer("normalization")
    same = {"mean": layer.mean * 3, "std": layer.std * 3, "channel_order": "bgr"}
    rgb = PSPNet(2, backbone=DilatedResNet(50, **backbone), weights=path, **same)
    for photo in sorted((DATA / "photos").glob("*.[jp][pn]g")):
        pixels = np.asarray(Image.open(photo).convert("L"), "float32")[None, ..., None]
        repeated = np.repeat(pixels, 3, axis=-1)
        for stage in (
            lambda model, x: model.backbone.stem[0](x),
            lambda model, x: model.backbone(x)[1],
        ):
            values, expected = (
                keras.ops.convert_to_numpy(stage(model, model.get_layer("normalization")(x)))
                for model, x in ((gray, pixels), (rgb, repeated))
            )
            assert np.abs(values - expected).max() <= 1e-5 * np.ptp(expected), photo.name


@pytest.mark.skipif(not DATA.exists(), reason=f"real weights and photos are not at {DATA}")
def test_bands_of_weights_in_bgr_begin_with_red():
    path = DATA / "weights" / "resnet50_imagenet_conv1_conv4.npz"
    backbone = DilatedResNet(50, stem_filters=(64,), stride_in_1x1=True, epsilon=1.001e-5)
    model = PSPNet(2, backbone=backbone, weights=path, input_channels=4)
    theirs = np.asarray(read_checkpoint(path).tensors["conv1_conv/kernel"], "float32")
    kernel = np.asarray(model.backbone.stem[0].conv.kernel)
    np.testing.assert_allclose(kernel[:, :, :3], 0.75 * theirs[:, :, ::-1], rtol=1e-5)
    np.testing.assert_allclose(kernel[:, :, 3], 0.75 * theirs.mean(2), rtol=1e-4, atol=1e-7)
    layer = model.get_layer("normalization")
    np.testing.assert_allclose(layer.mean[:3], (123.68, 116.779, 103.939))
    assert layer.channel_order == "rgb"
