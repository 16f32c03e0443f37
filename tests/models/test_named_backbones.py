import keras
import numpy as np
import pytest
from support.networks import SMALLEST_BACKBONES

import keras_psp
from keras_psp import PSPNet
from keras_psp.imagenet import APPLICATIONS, BACKBONES, EFFICIENTNET_LITE
from keras_psp.models.checks import smallest_side


def test_every_name_is_one_of_keras():
    assert len(set(BACKBONES)) == len(BACKBONES)
    for name in APPLICATIONS.values():
        assert callable(getattr(keras.applications, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST_BACKBONES)
def test_a_backbone_by_name_trains_and_predicts(name):
    model = PSPNet(3, backbone=name, output_stride=8, bin_sizes=(1, 2))
    images = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype("float32")
    masks = np.zeros((2, 96, 96), "int32")
    model.compile()
    losses = [model.train_on_batch(images, masks) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert model.predict_classes(images, verbose=0).shape == (2, 96, 96)
    assert model.backbone.output_stride == 8


def test_images_too_small_for_how_a_backbone_rounds_are_refused():
    model = PSPNet(3, backbone="mobilenet_v2")
    small, enough = (np.zeros((1, side, 60, 3), "float32") for side in (46, 47))
    with pytest.raises(ValueError, match=r"46x60 give .* images of at least 47 pixels per side"):
        model.predict_classes(small, verbose=0)
    assert model.predict_classes(enough, verbose=0).shape == (1, 47, 60)


def test_the_smallest_side_without_a_pyramid():
    model = PSPNet(3, backbone="mobilenet_v2", bin_sizes=())
    side = smallest_side(model)
    image = np.zeros((side, side, 3), "uint8")
    assert keras_psp.predict(image, model).classes.shape == (side, side)
    with pytest.raises(ValueError, match=f"at least {side} pixels per side"):
        model.predict_classes(np.zeros((1, side - 1, side, 3)), verbose=0)


@pytest.mark.parametrize(
    # Parameters of the published classifiers less those of their last layer of 1000 classes
    # (tpu/models/official/efficientnet/lite/README.md: 4.7, 5.4, 6.1, 8.2, 13.0 million).
    ("version", "millions"),
    [(0, 4.7), (1, 5.4), (2, 6.1), (3, 8.2), (4, 13.0)],
)
def test_efficientnet_lite_has_the_published_number_of_parameters(version, millions):
    from keras_psp.models.efficientnet_lite import efficientnet_lite

    model = efficientnet_lite(version, head=True)
    assert model.name == EFFICIENTNET_LITE[version]
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert abs(trainable + 1281 * 1000 - millions * 1e6) < 0.06e6


def test_efficientnet_lite_takes_channels_last_whatever_keras_is_configured_for():
    keras.config.set_image_data_format("channels_first")
    try:
        model = PSPNet(3, backbone="efficientnet_lite0", output_stride=32, bin_sizes=(1,))
        assert model.predict(np.ones((1, 33, 40, 3), "uint8"), verbose=0).shape == (1, 33, 40, 3)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_output_stride_of_a_name_and_of_a_layer():
    assert PSPNet(3, backbone="resnet18", output_stride=16).backbone.output_stride == 16
    backbone = PSPNet(3, backbone="resnet18").backbone
    with pytest.raises(ValueError, match="output_stride=16, but the backbone given has 8; omit it"):
        PSPNet(3, backbone=backbone, output_stride=16)
    with pytest.raises(ValueError, match="output_stride is 4; choose one of None, 8, 16, 32"):
        PSPNet(3, backbone="resnet18", output_stride=4)
