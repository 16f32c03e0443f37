import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_psp import UpsampledCrossentropy
from keras_psp.layers.resampling import resize_bilinear

CLASSES = 7


def example(height=33, width=41):
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(size=(3, 6, 5, CLASSES)) * 3, "float32")
    masks = rng.integers(0, CLASSES, (3, height, width)).astype("uint8")
    masks[0, :9] = 255
    return logits, masks


def plain(logits, masks, align_corners, weights=None):
    """Upsample everything, then torch's CrossEntropyLoss(ignore_index=255)."""
    full = resize_bilinear(logits, masks.shape[1:], align_corners=align_corners)
    valid = masks != 255
    labels = np.where(valid, masks, 0).astype("int32")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, full)
    scale = valid if weights is None else valid * weights
    return tf.reduce_sum(losses * scale.astype("float32")) / max(valid.sum(), 1)


def value_and_gradient(function, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return value, tape.gradient(value, logits)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("chunk", [1, 700, 2**21])
@pytest.mark.parametrize("size", [(33, 41), (6, 5), (4, 3), (2, 2), (1, 9)])
def test_equals_the_plain_form(size, chunk, align_corners):
    logits, masks = example(*size)
    loss = UpsampledCrossentropy(align_corners=align_corners, chunk_elements=chunk)
    found = value_and_gradient(lambda x: loss(masks, x), logits)
    expected = value_and_gradient(lambda x: plain(x, masks, align_corners), logits)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    np.testing.assert_allclose(loss.value(masks, logits), expected[0], rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_graphs(jit_compile):
    logits, masks = example()
    loss = UpsampledCrossentropy(chunk_elements=700)
    specs = None
    if not jit_compile:
        specs = [
            tf.TensorSpec((None, None, None, CLASSES)),
            tf.TensorSpec((None, None, None), "uint8"),
        ]
    step = tf.function(
        lambda x, y: value_and_gradient(lambda x: loss(y, x), x),
        jit_compile=jit_compile,
        input_signature=specs,
    )
    found = step(logits, tf.constant(masks))
    expected = value_and_gradient(lambda x: plain(x, masks, True), logits)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


def test_stock_loss_agrees():
    logits, masks = example()
    full = resize_bilinear(logits, masks.shape[1:], align_corners=True)
    stock = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    np.testing.assert_allclose(
        UpsampledCrossentropy()(masks, logits), stock(masks, full), rtol=1e-5
    )


def test_weights_of_pixels_and_images():
    logits, masks = example()
    weights = np.random.default_rng(1).uniform(size=masks.shape).astype("float32")
    loss = UpsampledCrossentropy()
    expected = plain(logits, masks, True, weights)
    np.testing.assert_allclose(loss(masks, logits, weights), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(masks, logits, weights[..., None]), expected, rtol=1e-5)
    images = np.array([1.0, 0.0, 2.0], "float32")
    expected = plain(logits, masks, True, images[:, None, None])
    np.testing.assert_allclose(loss(masks, logits, images), expected, rtol=1e-5)


def test_all_void_is_zero_with_zero_gradient():
    logits, masks = example()
    masks[:] = 255
    value, gradient = value_and_gradient(lambda x: UpsampledCrossentropy()(masks, x), logits)
    assert float(value) == 0
    assert not np.any(gradient)


@pytest.mark.parametrize("label", [CLASSES, 254])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_label_that_is_no_class_is_nan_everywhere(label, jit_compile):
    logits, masks = example()
    masks[1, 2, 3] = label
    loss = tf.function(UpsampledCrossentropy(), jit_compile=jit_compile)
    assert np.isnan(loss(tf.constant(masks), logits))


def test_no_ignored_label():
    logits, masks = example()
    assert np.isnan(UpsampledCrossentropy(ignore_class=None)(masks, logits))
    masks[masks == 255] = 0
    found = UpsampledCrossentropy(ignore_class=None)(masks, logits)
    np.testing.assert_allclose(found, plain(logits, masks, True), rtol=1e-5)


def test_full_size_scores_never_exist():
    """No tensor of the graph holds all classes at full size."""
    logits, masks = example(120, 120)
    loss = UpsampledCrossentropy(chunk_elements=5000)
    graph = tf.function(
        lambda x: value_and_gradient(lambda x: loss(masks, x), x)
    ).get_concrete_function(logits)
    functions = [graph.graph, *graph.graph._functions.values()]
    sizes = [
        output.shape.num_elements() or 0
        for function in functions
        for operation in getattr(function, "graph", function).get_operations()
        for output in operation.outputs
        if output.dtype.is_floating
    ]
    assert max(sizes) < 120 * 120 * CLASSES


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((3, 8, 8, CLASSES)), r"must be \(batch, height, width\) integer labels"),
        (np.zeros((3, 8)), r"y_true has shape \(3, 8\)"),
    ],
)
def test_other_masks_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        UpsampledCrossentropy()(masks, example()[0])


def test_configuration_comes_back():
    loss = UpsampledCrossentropy(ignore_class=0, align_corners=False, chunk_elements=9)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
