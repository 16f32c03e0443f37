import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_psp.layers import FactorizedFusion, PyramidPoolingModule
from keras_psp.layers.resampling import resize_bilinear


def plain_fusion(inputs, kernel, align_corners):
    """Upsample, concatenate, convolve: the reference for `FactorizedFusion`."""
    features, *levels = inputs
    size = features.shape[1:3]
    maps = [resize_bilinear(level, size, align_corners=align_corners) for level in levels]
    return tf.nn.conv2d(tf.concat([features, *maps], axis=-1), kernel, 1, "SAME")


def fusion_inputs(size, bins, channels=5, batch=2):
    rng = np.random.default_rng(0)
    shapes = [(batch, *size, 7), *[(batch, b, b, channels) for b in bins]]
    return [tf.constant(rng.normal(size=shape), "float32") for shape in shapes]


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(60, 60), (59, 83), (7, 6), (30, 97), (6, 6)])
@pytest.mark.parametrize("bins", [(1, 2, 3, 6), (1,), (4,)])
def test_factorized_fusion_equals_plain_fusion(size, bins, align_corners):
    inputs = fusion_inputs(size, bins)
    layer = FactorizedFusion(8, align_corners=align_corners)
    layer.build([x.shape for x in inputs])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        actual = layer(inputs)
        expected = plain_fusion(inputs, layer.kernel.value, align_corners)
        losses = [tf.reduce_sum(tf.sin(y)) for y in (actual, expected)]
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    variables = [*inputs, layer.kernel.value]
    for ours, theirs in zip(*(tape.gradient(loss, variables) for loss in losses), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_each_term_is_the_convolution_of_one_input(kernel_size):
    inputs = fusion_inputs((13, 18), (1, 3))
    layer = FactorizedFusion(8, kernel_size=kernel_size)
    layer.build([x.shape for x in inputs])
    terms = [
        layer.features_term(inputs[0]),
        *(layer.level_term(n, level, (13, 18)) for n, level in enumerate(inputs[1:])),
    ]
    for number, term in enumerate(terms):
        only = [x if n == number else tf.zeros_like(x) for n, x in enumerate(inputs)]
        np.testing.assert_allclose(
            term, plain_fusion(only, layer.kernel.value, align_corners=True), atol=2e-5
        )
    # A level of another size takes the weights of its place.
    wider = tf.repeat(tf.repeat(inputs[1], 4, axis=1), 4, axis=2)
    np.testing.assert_allclose(layer.level_term(0, wider, (13, 18)), terms[1], atol=2e-5)


def test_dynamic_sizes_give_equal_results():
    inputs = fusion_inputs((13, 18), (1, 2, 3, 6))
    layer = FactorizedFusion(8)
    expected = layer(inputs)
    specs = [
        tf.TensorSpec((None, None, None, 7)),
        *[tf.TensorSpec((None, *x.shape[1:])) for x in inputs[1:]],
    ]
    dynamic = tf.function(lambda *inputs: layer(list(inputs)), input_signature=specs)
    np.testing.assert_allclose(dynamic(*inputs), expected, atol=1e-5)


def plain_module(module, x):
    """Inference of the module, written plainly."""
    pool = tf.reduce_mean if module.pooling == "average" else tf.reduce_max
    height, width = x.shape[1:3]
    maps = [x]
    for i, bins in enumerate(module.bin_sizes):

        def edges(k, n, bins=bins):
            return slice(k * n // bins, -(-(k + 1) * n // bins))

        rows = [
            tf.stack(
                [pool(x[:, edges(r, height), edges(c, width)], (1, 2)) for c in range(bins)], 1
            )
            for r in range(bins)
        ]
        level = tf.stack(rows, 1)
        if module.reductions:
            level = module.reductions[i](level)
        maps.append(resize_bilinear(level, (height, width), align_corners=module.align_corners))
    y = tf.nn.conv2d(tf.concat(maps, -1), module.fusion.kernel.value, 1, "SAME")
    return tf.nn.relu(module.norm(y))


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("reduction", ["auto", None, 3])
@pytest.mark.parametrize("bins", [(1, 2, 3, 6), (1,), ()])
def test_every_variant_equals_the_plain_module(pooling, reduction, bins):
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 11, 8, 16)), "float32")
    module = PyramidPoolingModule(bins, pooling=pooling, reduction=reduction, filters=6)
    actual = module(x)
    np.testing.assert_allclose(actual, plain_module(module, x), atol=1e-5)
    width = {"auto": 16 // max(len(bins), 1), None: 16}.get(reduction, reduction)
    assert module.fusion.kernel.shape == (3, 3, 16 + len(bins) * width, 6)
    assert len(module.reductions) == (0 if reduction is None else len(bins))


@pytest.mark.parametrize(("channels", "filters"), [(2048, 512), (512, 128), (320, 128)])
def test_filters_are_a_quarter_of_the_channels_but_at_least_128(channels, filters):
    module = PyramidPoolingModule((1,))
    assert module.compute_output_shape((1, 9, 9, channels)) == (1, 9, 9, filters)
    module.build((1, 9, 9, channels))
    assert module.fusion.kernel.shape[-1] == filters


def test_dropout_drops_whole_channels_in_training_only():
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 16)).astype("float32")
    module = PyramidPoolingModule(dropout=0.5, filters=64)
    module.build(x.shape)
    module.norm.beta.assign(np.ones(64))
    still, trained = module(x), ops.convert_to_numpy(module(x, training=True))
    dropped = (trained == 0).all(axis=(1, 2))
    assert 10 < dropped.sum() < 54
    assert not (ops.convert_to_numpy(still) == 0).all(axis=(1, 2)).any()


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(dtype):
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 16)).astype("float32")
    exact = PyramidPoolingModule(pooling="max")
    expected = exact(x)
    half = PyramidPoolingModule(pooling="max", dtype=dtype)
    half.build(x.shape)
    half.set_weights(exact.get_weights())
    actual = half(x)
    assert keras.backend.standardize_dtype(actual.dtype) == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(actual, "float32"), expected, atol=0.05)


def test_config_round_trip():
    module = PyramidPoolingModule((1, 4), pooling="max", reduction=None, align_corners=False)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(module))
    assert again.get_config() == module.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bin_sizes": (1, 0)}, r"bin_sizes\[1\] is 0; it must be an integer >= 1"),
        ({"bin_sizes": (1.5,)}, r"bin_sizes\[0\] is 1.5; it must be an integer"),
        ({"bin_sizes": None}, "bin_sizes is None; it must be a sequence"),
        ({"bin_sizes": (2, 2)}, r"bin_sizes is \(2, 2\); give each level another number"),
        ({"filters": 0}, "filters is 0; it must be an integer >= 1"),
        ({"dropout": "a"}, "dropout is 'a'; it must be a finite number >= 0 and < 1"),
        ({"align_corners": "no"}, "align_corners is 'no'; it must be True or False"),
        ({"pooling": "mean"}, "pooling is 'mean'; choose one of 'average', 'max'"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        PyramidPoolingModule(**arguments)


def test_bins_larger_than_the_map_raise():
    with pytest.raises(ValueError, match="larger than the feature map of 5x9"):
        PyramidPoolingModule()(np.zeros((1, 5, 9, 8), "float32"))
