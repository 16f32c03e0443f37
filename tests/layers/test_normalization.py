import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_psp import DilatedBackbone
from keras_psp.layers import ImageNormalization
from keras_psp.layers.normalization import BatchNormalization


def test_mean_and_std():
    layer = ImageNormalization(mean=(10, 20, 30), std=(1, 2, 4))
    np.testing.assert_allclose(layer(np.full((1, 1, 1, 3), 50, "uint8"))[0, 0, 0], [40, 15, 5])


def test_bgr_reverses_the_channels_first():
    layer = ImageNormalization(mean=(3, 2, 1), std=(1, 1, 1), channel_order="bgr")
    np.testing.assert_allclose(layer(np.array([[[[1.0, 2.0, 3.0]]]]))[0, 0, 0], [0, 0, 0])


def test_stays_float32_in_half_precision():
    layer = ImageNormalization(mean=(0.5, 0.5, 0.5), std=(1, 1, 1), dtype="mixed_bfloat16")
    np.testing.assert_allclose(layer(np.full((1, 1, 1, 3), 201.0, "float32"))[0, 0, 0], 200.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": (1, 2)}, "mean has 2 values and std 3; give one of each per channel"),
        ({"std": ()}, "mean has 3 values and std 0"),
        ({"mean": (), "std": ()}, "mean has 0 values and std 0"),
        ({"mean": (0, float("nan"), 0)}, r"mean\[1\] is nan; it must be a finite number"),
        ({"std": (1, 1, 0)}, r"std\[2\] is 0; it must be a finite number > 0"),
        ({"channel_order": "gbr"}, "channel_order is 'gbr'; choose one of 'rgb', 'bgr'"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageNormalization(**arguments)


SPREAD = 4.0  # standard deviation of the channels' values in the tests below


def values(batch, *size, seed=0):
    rng = np.random.default_rng(seed)
    return (3 + SPREAD * rng.normal(size=(batch, *size, 5))).astype("float32")


def built(kind=BatchNormalization, **arguments):
    layer = kind(momentum=0.9, epsilon=1e-5, **arguments)
    layer.build((None, None, None, 5))
    layer.moving_mean.assign(np.arange(5))
    return layer


def test_one_image_is_normalized_as_in_evaluation():
    layer, x = built(), values(1, 4, 6)
    outputs = layer(x, training=True)
    # The moving statistics after the image was added, by hand.
    mean, variance = x.astype("float64").mean((0, 1, 2)), x.astype("float64").var((0, 1, 2))
    old = np.arange(5.0)
    expected_mean = 0.97 * old + 0.03 * mean
    expected_variance = 0.97 + 0.03 * (variance + (mean - old) ** 2)
    np.testing.assert_allclose(layer.moving_mean, expected_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, expected_variance, rtol=1e-5)
    expected = (x - expected_mean) / np.sqrt(expected_variance + 1e-5)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer(x), outputs, rtol=1e-4, atol=1e-4)


def test_one_value_per_channel_has_the_variance_between_images():
    layer = built()
    for seed in range(400):
        x = tf.constant(values(1, 1, 1, seed=seed))
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
    assert abs(tape.gradient(outputs, x)).numpy().min() > 0
    np.testing.assert_allclose(layer.moving_mean, 3, atol=0.4 * SPREAD)
    np.testing.assert_allclose(np.sqrt(layer.moving_variance), SPREAD, rtol=0.25)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("size", [(4, 6), (1, 1)])
def test_a_graph_of_any_batch_does_the_same(batch, size):
    x = values(batch, *size)
    eager, graph = built(), built()
    signature = [tf.TensorSpec((None, *size, 5))]
    outputs = tf.function(lambda x: graph(x, training=True), input_signature=signature)(x)
    np.testing.assert_allclose(outputs, eager(x, training=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(graph.moving_variance, eager.moving_variance, rtol=1e-6)


def test_several_images_are_normalized_by_keras():
    for size in ((4, 6), (1, 1)):
        x = values(2, *size)
        ours, theirs = built(), built(keras.layers.BatchNormalization)
        outputs = ours(x, training=True), theirs(x, training=True)
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
        for own, other in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-6)


def test_a_frozen_layer_and_one_without_factors_take_one_image():
    x = values(1, 4, 6)
    frozen = built(trainable=False)
    frozen(x, training=True)
    np.testing.assert_array_equal(frozen.moving_mean, np.arange(5))
    bare = built(scale=False, center=False)
    np.testing.assert_allclose(bare(x, training=True), bare(x), rtol=1e-4, atol=1e-4)


def test_copied_backbones_take_one_image():
    model = keras.applications.MobileNetV3Small(include_top=False, weights=None)
    norms = [
        layer
        for layer in DilatedBackbone(model).features.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert norms and {type(norm) for norm in norms} == {BatchNormalization}
