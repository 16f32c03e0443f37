"""Facts about every loss; those of one loss are in its own file."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.losses import (
    CLASS_WEIGHTS,
    CLASSES,
    example,
    pixel_weights,
    reference,
    value_and_gradient,
)

from keras_psp.losses import (
    UpsampledCrossentropy,
    UpsampledDice,
    UpsampledFocalCrossentropy,
    UpsampledLovasz,
    UpsampledSum,
    UpsampledTversky,
)

LOSSES = {
    "boundary": UpsampledCrossentropy(boundary_weight=4.0, boundary_radius=2),
    "smoothing": UpsampledCrossentropy(label_smoothing=0.2, class_weights=CLASS_WEIGHTS),
    "focal": UpsampledFocalCrossentropy(),
    "focal weighted": UpsampledFocalCrossentropy(gamma=0.5, class_weights=CLASS_WEIGHTS),
    "focal sigmoid": UpsampledFocalCrossentropy(
        activation="sigmoid", alpha=0.25, class_weights=CLASS_WEIGHTS
    ),
    "dice": UpsampledDice(),
    "dice weighted": UpsampledDice(smooth=2.0, class_weights=CLASS_WEIGHTS),
    "tversky": UpsampledTversky(),
    "tversky gamma": UpsampledTversky(alpha=1.0, beta=0.2, gamma=0.75),
    "lovasz": UpsampledLovasz(),
    "lovasz weighted": UpsampledLovasz(class_weights=CLASS_WEIGHTS),
    "lovasz per image": UpsampledLovasz(per_image=True),
    "sum": UpsampledSum([UpsampledDice(), UpsampledCrossentropy()], [0.5, 2.0]),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def in_chunks(loss, elements, align_corners=True):
    """A copy of the loss with blocks of a few rows."""
    loss = loss.aligned(align_corners)
    for part in loss.parts():
        part.chunk_elements = elements
    return loss


def check(actual, expected, tolerance):
    np.testing.assert_allclose(actual[0], expected[0], rtol=tolerance)
    largest = np.abs(expected[1]).max()
    np.testing.assert_allclose(actual[1], expected[1], rtol=0, atol=10 * tolerance * largest)


@every_loss
@pytest.mark.parametrize(
    ("align_corners", "weighted"), [(True, False), (True, True), (False, False)]
)
def test_equals_the_plain_form_in_float64(loss, align_corners, weighted):
    logits, masks = example()
    weights = pixel_weights(masks) if weighted else None
    loss = in_chunks(loss, 2000, align_corners)
    actual = value_and_gradient(lambda x: loss(masks, x, weights), logits)
    # The weights of rows are float32, exact here where align_corners is True.
    tolerance = 1e-11 if align_corners else 1e-6
    check(actual, reference(loss, logits, masks, weights), tolerance)
    evaluated = loss.value(masks, logits, weights)
    np.testing.assert_allclose(evaluated, actual[0], rtol=1e-12)


@pytest.mark.parametrize("name", ["boundary", "smoothing", "focal sigmoid", "dice", "lovasz"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_equals_the_plain_form_in_graphs(name, jit_compile):
    """With any size without XLA."""
    logits, masks = example()
    loss = in_chunks(LOSSES[name], 2000)
    size = (3, *masks.shape[1:]) if jit_compile else (None, None, None)
    step = tf.function(
        lambda x, y: tf.nest.flatten(_step(loss, x, y)),
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec((3, 6, 5, CLASSES) if jit_compile else (None, None, None, CLASSES)),
            tf.TensorSpec(size, "uint8"),
        ],
    )
    actual = step(tf.constant(logits, "float32"), tf.constant(masks))
    check(actual, reference(loss, logits, masks), 1e-5)


def _step(loss, logits, masks):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(masks, logits)
    return value, tape.gradient(value, logits)


SCRIPT = """
import json
import sys
import keras
import numpy as np
import keras_psp

given = np.load(sys.argv[1])
configs = json.loads(sys.argv[2])
backend = keras.backend.backend()
for number, config in enumerate(configs):
    loss = keras.saving.deserialize_keras_object(config)
    for part in loss.parts():
        part.chunk_elements = 2000
    arguments = given["masks"], given["weights"]
    if backend == "jax":
        import jax
        step = jax.jit(jax.value_and_grad(lambda x: loss(arguments[0], x, arguments[1])))
        value, gradient = step(given["logits"])
    else:
        import torch
        logits = torch.tensor(given["logits"], requires_grad=True)
        value = loss(arguments[0], logits, arguments[1])
        gradient, = torch.autograd.grad(value, logits)
        value = value.detach()
    np.savez(f"{sys.argv[3]}/{number}.npz", value=value, gradient=gradient)
print(backend)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_equals_the_plain_form_on_other_backends(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    logits, masks = example()
    weights = pixel_weights(masks)
    given = {"logits": logits.astype("float32"), "weights": weights.astype("float32")}
    np.savez(tmp_path / "given.npz", masks=masks, **given)
    configs = [keras.saving.serialize_keras_object(loss) for loss in LOSSES.values()]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "given.npz", json.dumps(configs), tmp_path],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == backend, run.stderr[-3000:]
    for number, loss in enumerate(LOSSES.values()):
        with np.load(tmp_path / f"{number}.npz") as actual:
            results = actual["value"], actual["gradient"]
        check(results, reference(loss, logits, masks, weights), 1e-5)


@every_loss
def test_full_size_scores_are_never_in_memory(loss):
    """No tensor of the graph has all classes at full size."""
    logits, masks = example(120, 120)
    loss = in_chunks(loss, 5000)
    logits = tf.constant(logits, "float32")
    graph = tf.function(lambda x: _step(loss, x, masks)).get_concrete_function(logits)
    functions = [graph.graph, *graph.graph._functions.values()]
    sizes = [
        output.shape.num_elements() or 0
        for function in functions
        for operation in getattr(function, "graph", function).get_operations()
        for output in operation.outputs
        if output.dtype.is_floating
    ]
    assert max(sizes) < 120 * 120 * CLASSES


@every_loss
def test_only_ignored_pixels_give_zero_loss_and_gradient(loss):
    logits, masks = example()
    value, gradient = value_and_gradient(lambda x: loss(np.full_like(masks, 255), x), logits)
    assert value == 0
    assert not np.any(gradient)


@every_loss
def test_an_invalid_label_gives_nan(loss):
    logits, masks = example()
    masks[1, 2, 3] = CLASSES
    assert np.isnan(loss(masks, logits))
    assert np.isnan(loss.value(masks, logits))


@every_loss
def test_half_precision_logits_are_computed_in_float32(loss):
    logits, masks = example()
    logits = tf.cast(logits, "float16")
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(masks, logits)
    gradient = tape.gradient(value, logits)
    assert (value.dtype, gradient.dtype) == (tf.float32, logits.dtype)
    expected = reference(loss, tf.cast(logits, "float64"), masks)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    largest = np.abs(expected[1]).max()
    np.testing.assert_allclose(
        tf.cast(gradient, "float64"), expected[1], rtol=0, atol=0.01 * largest
    )


@every_loss
def test_config_round_trip(loss):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


@every_loss
def test_another_alignment_than_the_network_raises(loss):
    assert all(part.align_corners is False for part in loss.aligned(False).parts())
    with pytest.raises(ValueError, match="the loss has align_corners=False but the model"):
        loss.aligned(False).aligned(True)


@pytest.mark.parametrize("name", ["dice", "tversky gamma", "lovasz", "focal sigmoid", "sum"])
def test_two_devices_compute_the_loss_of_the_batch(name):
    """Lovász sorts on each device separately: the mean over the halves of the batch."""
    loss = LOSSES[name]
    logits, masks = example()
    logits, masks = tf.constant(logits[1:]), tf.constant(masks[1:])
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )

    def halves(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group :][:1]
        )

    step = tf.function(lambda *given: strategy.run(lambda x, y: _step(loss, x, y), given))
    values, gradients = map(
        strategy.experimental_local_results, step(halves(logits), halves(masks))
    )
    if name == "lovasz":
        parts = [_step(loss, logits[i : i + 1], masks[i : i + 1]) for i in (0, 1)]
        expected = sum(value for value, _ in parts) / 2, tf.concat([g for _, g in parts], 0) / 2
    else:
        expected = _step(loss, logits, masks)
    np.testing.assert_allclose(sum(values), expected[0], rtol=1e-12)
    np.testing.assert_allclose(np.concatenate(gradients), expected[1], atol=1e-14)
