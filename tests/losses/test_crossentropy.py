import importlib.util
import json
import os
import subprocess
import sys

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


CLASS_WEIGHTS = [0.3, 2.0, 1.0, 0.0, 5.0, 0.7, 1.5]
# An image has 33x41 = 1353 pixels, of which 369 are ignored in the first image.
OPTIONS = [
    {"class_weights": CLASS_WEIGHTS},
    {"hard_pixels": 300},
    {"hard_pixels": 300, "class_weights": CLASS_WEIGHTS},
    {"hard_pixels": 20, "hard_threshold": 0.7},
    {"hard_pixels": 900, "hard_threshold": 0.1, "class_weights": CLASS_WEIGHTS},
    {"hard_pixels": 100_000, "hard_threshold": 0.7},
]


def interpolation(source, target, align_corners):
    """Bilinear interpolation of `source` values to `target` as a matrix."""
    positions = np.arange(target) * (source - 1) / max(target - 1, 1)
    if not align_corners:
        positions = (np.arange(target) + 0.5) * source / target - 0.5
    return np.stack([np.interp(positions, np.arange(source), row) for row in np.eye(source)], 1)


def reference(logits, masks, align_corners=True, sample_weight=1.0, **options):
    """The loss and its gradient in NumPy, float64, with mmsegmentation's sampler."""
    logits = np.asarray(logits, "float64")
    rows = interpolation(logits.shape[1], masks.shape[1], align_corners)
    columns = interpolation(logits.shape[2], masks.shape[2], align_corners)
    scores = np.einsum("bhwc,Hh,Ww->bHWc", logits, rows, columns)
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    valid = masks != 255
    labels = np.where(valid, masks, 0)
    weights = np.array(options.get("class_weights", np.ones(logits.shape[-1])))[labels] * valid
    divisor = weights.sum()
    of_label = np.take_along_axis(probabilities, labels[..., None], -1)[..., 0]
    losses = -np.log(of_label)
    kept = np.ones(valid.sum(), bool)
    if "hard_pixels" in options:
        most = options["hard_pixels"] * len(masks)
        if "hard_threshold" in options:
            ordered = np.sort(of_label[valid])
            least = ordered[min(most, len(ordered) - 1)]
            kept = of_label[valid] < max(least, options["hard_threshold"])
        else:
            kept[np.argsort(-(weights * losses)[valid])[most:]] = False
    weights[valid] *= kept
    weights = weights * sample_weight
    slopes = weights[..., None] * (probabilities - np.eye(logits.shape[-1])[labels]) / divisor
    gradient = np.einsum("bHWc,Hh,Ww->bhwc", slopes, rows, columns)
    return np.sum(weights * losses) / divisor, gradient


def value_and_gradient(function, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return value, tape.gradient(value, logits)


def in_graph(loss, jit_compile, logits, masks):
    """Value and gradient from a compiled function, traced for any size if without XLA."""
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
    return step(logits, tf.constant(masks))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("chunk", [1, 700, 2**21])
@pytest.mark.parametrize("size", [(33, 41), (6, 5), (4, 3), (2, 2), (1, 9)])
def test_equals_plain_upsampling_and_crossentropy(size, chunk, align_corners):
    logits, masks = example(*size)
    loss = UpsampledCrossentropy(align_corners=align_corners, chunk_elements=chunk)
    actual = value_and_gradient(lambda x: loss(masks, x), logits)
    expected = value_and_gradient(lambda x: plain(x, masks, align_corners), logits)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-6)
    np.testing.assert_allclose(loss.value(masks, logits), expected[0], rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_equals_plain_form_in_graphs(jit_compile):
    logits, masks = example()
    actual = in_graph(UpsampledCrossentropy(chunk_elements=700), jit_compile, logits, masks)
    expected = value_and_gradient(lambda x: plain(x, masks, True), logits)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-6)


def test_equals_the_loss_of_keras():
    logits, masks = example()
    full = resize_bilinear(logits, masks.shape[1:], align_corners=True)
    stock = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    np.testing.assert_allclose(
        UpsampledCrossentropy()(masks, logits), stock(masks, full), rtol=1e-5
    )


def test_sample_weights_of_pixels_and_images():
    logits, masks = example()
    weights = np.random.default_rng(1).uniform(size=masks.shape).astype("float32")
    loss = UpsampledCrossentropy()
    expected = plain(logits, masks, True, weights)
    np.testing.assert_allclose(loss(masks, logits, weights), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(masks, logits, weights[..., None]), expected, rtol=1e-5)
    images = np.array([1.0, 0.0, 2.0], "float32")
    expected = plain(logits, masks, True, images[:, None, None])
    np.testing.assert_allclose(loss(masks, logits, images), expected, rtol=1e-5)


def test_only_ignored_pixels_give_zero_loss_and_gradient():
    logits, masks = example()
    masks[:] = 255
    value, gradient = value_and_gradient(lambda x: UpsampledCrossentropy()(masks, x), logits)
    assert float(value) == 0
    assert not np.any(gradient)


@pytest.mark.parametrize("label", [CLASSES, 254])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_invalid_label_gives_nan(label, jit_compile):
    logits, masks = example()
    masks[1, 2, 3] = label
    loss = tf.function(UpsampledCrossentropy(), jit_compile=jit_compile)
    assert np.isnan(loss(tf.constant(masks), logits))


def test_ignore_class_none_ignores_nothing():
    logits, masks = example()
    assert np.isnan(UpsampledCrossentropy(ignore_class=None)(masks, logits))
    masks[masks == 255] = 0
    actual = UpsampledCrossentropy(ignore_class=None)(masks, logits)
    np.testing.assert_allclose(actual, plain(logits, masks, True), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, OPTIONS[2], OPTIONS[4]])
def test_full_size_scores_are_never_in_memory(options):
    """No tensor of the graph has all classes at full size."""
    logits, masks = example(120, 120)
    loss = UpsampledCrossentropy(chunk_elements=5000, **options)
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


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_options_equal_the_reference(options, align_corners):
    logits, masks = example()
    logits = tf.cast(logits, "float64")
    loss = UpsampledCrossentropy(align_corners=align_corners, chunk_elements=700, **options)
    value, gradient = value_and_gradient(lambda x: loss(masks, x), logits)
    expected = reference(logits, masks, align_corners, **options)
    # The weights of rows are float32, exact here where align_corners is True.
    np.testing.assert_allclose(value, expected[0], rtol=1e-12 if align_corners else 1e-7)
    np.testing.assert_allclose(gradient, expected[1], atol=1e-14 if align_corners else 1e-9)


def test_class_weights_equal_those_of_torch():
    torch = pytest.importorskip("torch")
    logits, masks = example()
    full = torch.tensor(logits.numpy(), requires_grad=True)
    upsampled = torch.nn.functional.interpolate(
        full.permute(0, 3, 1, 2), masks.shape[1:], mode="bilinear", align_corners=True
    )
    entropy = torch.nn.CrossEntropyLoss(torch.tensor(CLASS_WEIGHTS), ignore_index=255)
    expected = entropy(upsampled, torch.tensor(masks).long())
    expected.backward()
    loss = UpsampledCrossentropy(class_weights=CLASS_WEIGHTS)
    value, gradient = value_and_gradient(lambda x: loss(masks, x), logits)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, full.grad, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_options_in_graphs(options, jit_compile):
    logits, masks = example()
    loss = UpsampledCrossentropy(chunk_elements=700, **options)
    actual = in_graph(loss, jit_compile, logits, masks)
    expected = reference(logits, masks, **options)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-6)


SCRIPT = """
import json
import sys
import numpy as np
import keras
import keras_psp

given = np.load(sys.argv[1])
for number, options in enumerate(json.loads(sys.argv[2])):
    loss = keras_psp.UpsampledCrossentropy(chunk_elements=2000, **options)
    if keras.backend.backend() == "jax":
        import jax
        step = jax.jit(jax.value_and_grad(lambda logits: loss(given["masks"], logits)))
        value, gradient = step(given["logits"])
    else:
        import torch
        logits = torch.tensor(given["logits"], requires_grad=True)
        value = loss(given["masks"], logits)
        gradient, = torch.autograd.grad(value, logits)
        value = value.detach()
    np.savez(f"{sys.argv[3]}/{number}.npz", value=value, gradient=gradient)
print(keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_options_on_other_backends(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    logits, masks = example()
    np.savez(tmp_path / "given.npz", logits=logits, masks=masks)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "given.npz", json.dumps(OPTIONS), tmp_path],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == backend, run.stderr[-3000:]
    for number, options in enumerate(OPTIONS):
        expected = reference(logits, masks, **options)
        with np.load(tmp_path / f"{number}.npz") as actual:
            np.testing.assert_allclose(actual["value"], expected[0], rtol=1e-5)
            np.testing.assert_allclose(actual["gradient"], expected[1], atol=1e-6)


def test_mining_by_hand():
    # Two classes and logits 0, x: the probability of label 1 is sigmoid(x). Four pixels.
    chances = np.array([[0.2, 0.6, 0.8, 0.9]])
    logits = np.stack([0 * chances, np.log(chances / (1 - chances))], -1)[None]
    masks = np.ones((1, 1, 4), "int32")
    for pixels, threshold, kept in [
        (1, 0.7, [0.2, 0.6]),  # below the threshold
        (3, 0.7, [0.2, 0.6, 0.8]),  # at least three
        (4, 0.7, [0.2, 0.6, 0.8]),  # as mmsegmentation: all but the easiest
        (4, 0.95, chances),
        (1, None, [0.2]),
        (3, None, [0.2, 0.6, 0.8]),
        (4, None, chances),
    ]:
        loss = UpsampledCrossentropy(hard_pixels=pixels, hard_threshold=threshold)
        assert float(loss(masks, logits)) == pytest.approx(-np.log(kept).sum() / 4)
        assert float(loss.value(masks, logits)) == pytest.approx(-np.log(chances).mean())


@pytest.mark.parametrize("threshold", [None, 0.7])
def test_mining_keeps_all_of_equally_hard_pixels(threshold):
    logits, masks = np.zeros((1, 2, 2, CLASSES)), np.ones((1, 9, 9), "int32")
    loss = UpsampledCrossentropy(hard_pixels=5, hard_threshold=threshold)
    assert float(loss(masks, logits)) == pytest.approx(np.log(CLASSES))


@pytest.mark.parametrize("options", OPTIONS)
def test_evaluation_uses_class_weights_but_no_mining(options):
    logits, masks = example()
    weights = {key: value for key, value in options.items() if key == "class_weights"}
    actual = UpsampledCrossentropy(**options).value(masks, logits)
    np.testing.assert_allclose(actual, reference(logits, masks, **weights)[0], rtol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_sample_weights_apply_after_mining(options):
    logits, masks = example()
    weights = np.random.default_rng(1).uniform(size=masks.shape).astype("float32")
    loss = UpsampledCrossentropy(**options)
    value, gradient = value_and_gradient(lambda x: loss(masks, x, weights), logits)
    expected = reference(logits, masks, sample_weight=weights, **options)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_options_with_empty_masks_and_invalid_labels(options):
    logits, masks = example()
    loss = UpsampledCrossentropy(**options)
    masks[1, 2, 3] = CLASSES
    assert np.isnan(loss(masks, logits))
    masks[:] = 255
    value, gradient = value_and_gradient(lambda x: loss(masks, x), logits)
    assert float(value) == 0
    assert not np.any(gradient)


def test_classes_without_weight_are_zero():
    logits, masks = example()
    masks[:] = 3
    assert float(UpsampledCrossentropy(class_weights=CLASS_WEIGHTS)(masks, logits)) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("options", OPTIONS)
def test_options_with_half_precision_logits_are_computed_in_float32(options, dtype):
    logits, masks = example()
    logits = tf.cast(logits, dtype)
    loss = UpsampledCrossentropy(**options)
    value, gradient = value_and_gradient(lambda x: loss(masks, x), logits)
    expected = reference(tf.cast(logits, "float32"), masks, **options)
    assert (value.dtype, gradient.dtype) == (tf.float32, logits.dtype)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(tf.cast(gradient, "float32"), expected[1], rtol=0.01, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": [1.0, -1.0]}, r"class_weights\[1\] is -1.0; it must be a finite number"),
        ({"class_weights": [1.0, float("nan")]}, r"class_weights\[1\] is nan"),
        ({"class_weights": [0, 0]}, r"class_weights is \[0, 0\]; not all of them may be 0"),
        ({"class_weights": [[1.0, 2.0]]}, r"class_weights\[0\] is \[1.0, 2.0\]"),
        ({"class_weights": 2.0}, "class_weights is 2.0; it must be a sequence"),
        ({"class_weights": "balanced"}, "class_weights is 'balanced'; it must be a sequence"),
        ({"class_weights": {0: 1.0}}, r"class_weights is \{0: 1.0\}; it must be a sequence"),
        ({"hard_pixels": 0}, "hard_pixels is 0; it must be an integer >= 1"),
        ({"hard_pixels": 0.5}, "hard_pixels is 0.5; it must be an integer >= 1"),
        ({"hard_pixels": True}, "hard_pixels is True; it must be an integer >= 1"),
        ({"hard_threshold": 0.7}, "hard_threshold=0.7 needs hard_pixels"),
        ({"hard_threshold": 1.0, "hard_pixels": 9}, "hard_threshold is 1.0; .* > 0 and < 1"),
        ({"hard_threshold": 0, "hard_pixels": 9}, "hard_threshold is 0; .* > 0 and < 1"),
        ({"hard_threshold": float("nan"), "hard_pixels": 9}, "hard_threshold is nan"),
        ({"ignore_class": 2.5}, "ignore_class is 2.5; it must be an integer"),
        ({"align_corners": "no"}, "align_corners is 'no'; choose one of None, True, False"),
        ({"chunk_elements": 0}, "chunk_elements is 0; it must be an integer >= 1"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        UpsampledCrossentropy(**options)


def test_class_weights_for_another_number_of_classes_raise():
    logits, masks = example()
    with pytest.raises(ValueError, match="class_weights has 2 entries but the logits have 7"):
        UpsampledCrossentropy(class_weights=[1, 2])(masks, logits)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((3, 8, 8, CLASSES)), r"must be \(batch, height, width\) integer labels"),
        (np.zeros((3, 8)), r"y_true has shape \(3, 8\)"),
        (np.full((3, 8, 8), 0.5), "y_true has the value 0.5; labels must be whole numbers"),
        (np.full((3, 8, 8), np.nan), "y_true has the value nan"),
    ],
)
def test_invalid_masks_raise(masks, message):
    with pytest.raises(ValueError, match=message):
        UpsampledCrossentropy()(masks, example()[0])


def test_outputs_of_a_training_call_name_the_way():
    logits, masks = example()
    with pytest.raises(ValueError, match=r"call model.compute_loss\(x, y, y_pred\)"):
        UpsampledCrossentropy()(masks, {"logits": logits, "auxiliary": logits})


def test_config_round_trip():
    loss = UpsampledCrossentropy(ignore_class=0, align_corners=False, chunk_elements=9)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()


def test_options_survive_json():
    options = {
        "class_weights": np.array([1, 0.5], "float32"),
        "hard_pixels": np.int64(7),
        "hard_threshold": np.float32(0.5),
    }
    config = json.loads(json.dumps(UpsampledCrossentropy(**options).get_config()))
    actual = UpsampledCrossentropy.from_config(config).get_config()
    assert {key: actual[key] for key in options} == {
        "class_weights": [1.0, 0.5],
        "hard_pixels": 7,
        "hard_threshold": 0.5,
    }


def test_label_smoothing_equals_that_of_keras():
    logits, masks = example()
    masks[masks == 255] = 0
    full = resize_bilinear(logits, masks.shape[1:], align_corners=True)
    stock = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    loss = UpsampledCrossentropy(label_smoothing=0.1)
    target = np.eye(CLASSES, dtype="float32")[masks]
    np.testing.assert_allclose(loss(masks, logits), stock(target, full), rtol=1e-5)


def test_boundary_weights_by_hand():
    # Logits 0, x at three pixels of label 0, one ignored and one of label 1.
    x = np.array([[0.3, -0.2, 1.0, 3.0, 0.5]])
    logits = np.stack([0 * x, x], -1)[None]
    masks = np.array([[[0, 0, 0, 255, 1]]])
    losses = np.log1p(np.exp([0.3, -0.2, 1.0, -0.5]))
    # Within two pixels of another class: the third and the last pixel, across the ignored one.
    weights = np.array([1, 1, 5, 5])
    loss = UpsampledCrossentropy(boundary_weight=4.0, boundary_radius=2)
    assert float(loss(masks, logits)) == pytest.approx(np.sum(weights * losses) / 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; .* >= 0 and < 1"),
        ({"label_smoothing": 0.1, "hard_pixels": 9}, "label_smoothing=0.1 can't be combined with"),
        ({"boundary_weight": -1}, "boundary_weight is -1; it must be a finite number >= 0"),
        ({"boundary_radius": 0}, "boundary_radius is 0; it must be an integer >= 1"),
    ],
)
def test_invalid_smoothing_and_boundaries_raise(options, message):
    with pytest.raises(ValueError, match=message):
        UpsampledCrossentropy(**options)
