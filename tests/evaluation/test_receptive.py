import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_backbone, tiny_predictor

from keras_psp import DilatedBackbone, DilatedResNet, PSPNet
from keras_psp.evaluation import (
    ReceptiveField,
    receptive_field,
    receptive_field_diagram,
    theoretical_size,
)

KNOWN = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "channel_order": "rgb"}


def positive(model):
    """The model with positive weights, so that no gradient vanishes within the field."""
    for variable in model.trainable_variables:
        variable.assign(np.abs(variable) + 0.01)
    return model


def extent(gradient):
    """Heights and widths of the pixels with a gradient."""
    rows, columns = (np.flatnonzero(gradient.any(axis=axis)) for axis in (1, 0))
    return [int(np.ptp(places)) + 1 for places in (rows, columns)]


def functional():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 5, strides=2, padding="same")(images)
    y = keras.layers.Conv2D(4, 1, strides=2, padding="same")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = keras.layers.Add()([x, y])
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return DilatedBackbone(keras.Model(images, keras.layers.Conv2D(8, 3, padding="same")(x)))


@pytest.mark.parametrize(
    ("depth", "size"),
    # Stem 11, pooling 15; then (k - 1) d s of each 3x3 convolution; the fusion 16.
    [
        (18, 15 + 4 * 8 + 8 + 3 * 16 + 4 * 32 + 4 * 64 + 16),
        (50, 15 + 3 * 8 + 8 + 3 * 16 + 6 * 32 + 3 * 64 + 16),
        (101, 15 + 3 * 8 + 8 + 3 * 16 + 23 * 32 + 3 * 64 + 16),
    ],
)
def test_theoretical_sizes_by_hand(depth, size):
    model = PSPNet(4, backbone=f"resnet{depth}", aux_weight=0)
    assert theoretical_size(model, pyramid=False) == size
    assert theoretical_size(model) is None


def test_strides_with_dilation_count_in_the_theoretical_size():
    # As in mmsegmentation's d32 networks: dilations of 2 and 4 at strides of 16 and 32.
    options = {"output_stride": 32, "dilations": (1, 1, 2, 4)}
    model = PSPNet(4, backbone=DilatedResNet(18, **options), aux_weight=0, bin_sizes=())
    # The first convolution of a stage has the stride and the dilation of the stage.
    stages = 4 * 2 * 4, 2 * 4 + 3 * 2 * 8, 2 * 2 * 8 + 3 * 4 * 16, 2 * 4 * 16 + 3 * 8 * 32
    assert theoretical_size(model) == 15 + sum(stages) + 2 * 32


def test_noise_has_the_bands_of_the_network():
    model = tiny_predictor(input_channels=4, mean=(3000.0,) * 4, std=(500.0,) * 4)
    field = receptive_field(model, image_size=(65, 73))
    assert field.gradient.shape == (65, 73)


def test_the_gradient_of_positive_weights_fills_the_theoretical_square():
    model = positive(tiny_predictor(backbone=functional(), **KNOWN))
    # 5 at step 1, then 3 at steps 2, 4, 8 and, the last two with dilation 2, the fusion at 8.
    size = 1 + 4 + 2 * 2 + 2 * 4 + 2 * 8 + 2 * 2 * 8 + 2 * 8
    assert theoretical_size(model, pyramid=False) == size
    field = receptive_field(model, pyramid=False, image_size=(121, 137))
    assert field.theoretical_size == size
    assert extent(field.gradient) == [size, size]
    whole = receptive_field(model, image_size=(121, 137))
    assert extent(whole.gradient) == [121, 137] and whole.theoretical_size is None
    assert field.radius() < whole.radius()
    assert field.gradient.sum() == pytest.approx(1)


def test_a_residual_network_stays_within_its_theoretical_square():
    model = positive(tiny_predictor(backbone=tiny_backbone(num_stages=2), bin_sizes=()))
    size = theoretical_size(model)
    assert size == 7 + 4 + 4 * 8 + 8 + 3 * 16 + 16  # the stem is one 7x7 convolution
    sides = extent(receptive_field(model, image_size=(129, 137)).gradient)
    # Max pooling passes the gradient to one of the pixels in a window only.
    assert all(size - 8 <= side <= size for side in sides)


def test_without_the_levels_weights_both_gradients_are_equal():
    model = tiny_predictor(backbone=tiny_backbone(num_stages=2))
    kernel = model.get_layer("pyramid_pooling").fusion.kernel
    values = keras.ops.convert_to_numpy(kernel).copy()
    channels = model.backbone.compute_output_shape((1, 65, 65, 3))[1][-1]
    options = {"image_size": (65, 73), "seed": 3}
    with_pyramid, cut = (
        receptive_field(model, pyramid=pyramid, **options).gradient for pyramid in (True, False)
    )
    assert np.abs(with_pyramid - cut).max() > 1e-6
    values[:, :, channels:] = 0
    kernel.assign(values)
    with_pyramid, cut = (
        receptive_field(model, pyramid=pyramid, **options).gradient for pyramid in (True, False)
    )
    np.testing.assert_allclose(with_pyramid, cut, atol=1e-9)


def test_the_field_is_around_the_feature_nearest_to_the_pixel():
    model = tiny_predictor(backbone=tiny_backbone(num_stages=2), bin_sizes=())
    images = np.random.default_rng(0).uniform(0, 255, (2, 65, 129, 3))
    field = receptive_field(model, images, pixel=(33, 90))
    assert field.center == (32, 88)
    mean = np.average(np.indices((65, 129)), axis=(1, 2), weights=[field.gradient] * 2)
    assert np.abs(mean - field.center).max() < 8
    alone = [receptive_field(model, [image], pixel=(33, 90)).gradient for image in images]
    np.testing.assert_allclose(field.gradient, np.mean(alone, axis=0), atol=1e-8)


def test_radius_and_share_by_hand():
    gradient = np.zeros((5, 5))
    gradient[2, 2], gradient[2, 4], gradient[0, 0] = 0.5, 0.45, 0.05
    field = ReceptiveField(gradient, (2.0, 2.0), None)
    assert field.radius(0.5) == 0
    assert field.radius() == 2
    assert field.radius(1) == pytest.approx(np.sqrt(8))
    assert field.share_within(2) == pytest.approx(0.95)
    with pytest.raises(ValueError, match="share=0; it must be above 0"):
        field.radius(0)


def test_global_pooling_sees_the_whole_image():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=8, padding="same")(images)
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Multiply()([x, scale])
    model = tiny_predictor(backbone=DilatedBackbone(keras.Model(images, x)), **KNOWN)
    assert theoretical_size(model, pyramid=False) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel": (65, 0)}, r"pixel=\(65, 0\) isn't in images of 73x65; give \(row, column\)"),
        ({"image_size": (65, 0)}, "two positive integers"),
        ({"images": []}, "images is empty"),
        ({"images": [np.ones((65, 65, 3)), np.ones((65, 73, 3))]}, "image 2 is 73x65 but the f"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    model = tiny_predictor(backbone=tiny_backbone(num_stages=2))
    with pytest.raises(ValueError, match=message):
        receptive_field(model, **{"image_size": (65, 73), **options})


def test_a_network_of_zeros_has_no_field():
    model = tiny_predictor(backbone=tiny_backbone(num_stages=2))
    model.get_layer("classifier").kernel.assign(0 * model.get_layer("classifier").kernel)
    with pytest.raises(ValueError, match="the gradient of image 1 is zero or not finite"):
        receptive_field(model, image_size=(65, 73))


def test_a_diagram_without_fields_is_refused(tmp_path):
    with pytest.raises(ValueError, match="parts is empty; give at least one receptive field"):
        receptive_field_diagram([], path=tmp_path / "fields.png")


def test_the_diagram_has_a_panel_per_field(tmp_path):
    field = ReceptiveField(np.eye(20) / 20, (10.0, 10.0), 9)
    widths = []
    for count in (1, 2):
        receptive_field_diagram([("a", field)] * count, path=tmp_path / "fields.png")
        with Image.open(tmp_path / "fields.png") as image:
            widths.append(image.width)
    assert widths[1] == 2 * widths[0]


SCRIPT = """
import sys
import keras
import numpy as np
from keras_psp.evaluation import receptive_field

model = keras.saving.load_model(sys.argv[1])
images = np.load(sys.argv[2])
fields = [receptive_field(model, images, pyramid=pyramid).gradient for pyramid in (True, False)]
np.save(sys.argv[3], fields)
print(keras.backend.backend())
"""


@pytest.mark.slow  # a process per backend
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_gradients(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model = tiny_predictor(backbone=tiny_backbone(num_stages=2))
    images = np.random.default_rng(0).uniform(0, 255, (2, 65, 73, 3)).astype("float32")
    files = [tmp_path / name for name in ("model.keras", "images.npy", "fields.npy")]
    model.save(files[0])
    np.save(files[1], images)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, files)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip() == backend
    for pyramid, field in zip((True, False), np.load(files[2]), strict=True):
        expected = receptive_field(model, images, pyramid=pyramid).gradient
        np.testing.assert_allclose(field, expected, atol=1e-3 * expected.max())
