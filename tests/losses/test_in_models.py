"""The losses' options in training, evaluation and files of a `PSPNet`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import SGD, UpsampledCrossentropy, losses

CLASSES = 3
WEIGHTS = [0.5, 2.0, 1.0]
OPTIONS = {"class_weights": WEIGHTS, "hard_pixels": 500, "hard_threshold": 0.4}


def example():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 41, 49, 3)).astype("float32")
    masks = rng.integers(0, CLASSES, (2, 41, 49)).astype("uint8")
    # Unequal numbers of ignored pixels and of classes in the two images.
    masks[0, :30] = 255
    masks[1, :9] = 1
    return images, masks


def two_devices():
    # TensorFlow's collectives support one strategy per process (its issue 62790), which is
    # the one of tests/models/test_distribution.py.
    to_one = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=to_one)


def small(dtype=None):
    backbone = tiny_backbone(name="backbone", dtype=dtype)
    return tiny_pspnet(CLASSES, backbone=backbone, dropout=0.0)


def weighted_mean(logits, masks):
    """Mean cross-entropy in float64 of logits at the masks' size, weighted by class."""
    logits = np.asarray(logits, "float64")
    losses = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits
    valid = masks != 255
    labels = masks[valid]
    weights = np.array(WEIGHTS)[labels]
    return np.sum(weights * losses[valid][np.arange(len(labels)), labels]) / weights.sum()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_options_survive_compile_fit_and_saving(dtype, tmp_path):
    images, masks = example()
    model = small(dtype)
    model.compile(SGD(0.01), loss=UpsampledCrossentropy(**OPTIONS))
    history = model.fit(images, masks, batch_size=2, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    evaluated = model.evaluate(images, masks, verbose=0)
    # The logits are float32 in any precision; mining applies only in training.
    logits = model(images)
    assert logits.dtype == tf.float32
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    assert evaluated == pytest.approx(weighted_mean(logits, masks), rel=tolerance)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for kept in (model, loaded):
        config = kept._loss_function.get_config()
        assert {key: config[key] for key in OPTIONS} == OPTIONS
        assert config["align_corners"] is True
    assert loaded.evaluate(images, masks, verbose=0) == pytest.approx(evaluated, rel=tolerance)


def test_each_head_is_mined_separately():
    images, masks = example()
    model = small()
    model.compile(loss=UpsampledCrossentropy(hard_pixels=200))
    rng = np.random.default_rng(1)
    logits, auxiliary = (rng.normal(size=(2, 6, 7, CLASSES)).astype("float32") for _ in "12")
    loss = model.compute_loss(images, masks, {"logits": logits, "auxiliary": auxiliary})
    # test_crossentropy.py compares the mining of one head with NumPy.
    alone = UpsampledCrossentropy(hard_pixels=200)
    expected = alone(masks, logits) + 0.4 * alone(masks, auxiliary)
    assert float(loss) == pytest.approx(float(expected))


def test_class_weights_for_another_number_of_classes_raise():
    with pytest.raises(ValueError, match="the loss has 2 class_weights but the model 3 classes"):
        small().compile(loss=UpsampledCrossentropy(class_weights=[1, 2]))


@pytest.mark.parametrize("mined", [False, True])
def test_two_devices_divide_by_the_weights_of_both_batches(mined):
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(size=(2, 6, 7, CLASSES)), "float32")
    _, masks = example()
    options = {"class_weights": WEIGHTS, **({"hard_pixels": 200} if mined else {})}
    loss = UpsampledCrossentropy(**options)
    strategy = two_devices()

    def step(logits, masks):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(masks, logits)
        return value, tape.gradient(value, logits)

    def halves(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group :][:1]
        )

    run = tf.function(lambda *halves: strategy.run(step, halves))
    values, gradients = run(halves(logits), halves(tf.constant(masks)))
    if mined:
        # Each device keeps the hardest of its own image; the divisor is that of both.
        shares = [np.sum(np.array(WEIGHTS)[mask[mask != 255]]) for mask in masks]
        alone = [step(logits[i : i + 1], tf.constant(masks[i : i + 1])) for i in (0, 1)]
        parts = np.array(shares) / np.sum(shares)
        expected = sum(part * value for part, (value, _) in zip(parts, alone, strict=True))
        slopes = [part * slope for part, (_, slope) in zip(parts, alone, strict=True)]
        expected_gradient = np.concatenate(slopes)
    else:
        expected, expected_gradient = step(logits, tf.constant(masks))
    actual = sum(strategy.experimental_local_results(values))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    gradient = np.concatenate(strategy.experimental_local_results(gradients))
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["0.5*dice+crossentropy", "lovasz", "focal"])
def test_losses_by_name_train_and_survive_saving(name, tmp_path):
    images, masks = example()
    model = small()
    model.compile(SGD(0.01), loss=name)
    before = model.evaluate(images, masks, verbose=0)
    # The loss of the compiled model is that of its logits, at the model's align_corners.
    expected = losses.get(name).aligned(True).value(masks, model.predict_low_resolution(images))
    assert before == pytest.approx(float(expected), rel=1e-4)
    history = model.fit(images, masks, batch_size=2, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded._loss_function.get_config() == model._loss_function.get_config()
    evaluated = model.evaluate(images, masks, verbose=0)
    assert loaded.evaluate(images, masks, verbose=0) == pytest.approx(evaluated, rel=1e-5)


def test_a_compiled_loss_by_name_is_in_the_saved_file(tmp_path):
    model = small()
    model.compile(loss="2*dice+focal")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded._loss_function.get_config() == model._loss_function.get_config()
    assert [part.name for part in loaded._loss_function.parts()] == ["dice", "focal"]


def test_the_auxiliary_head_has_the_same_loss():
    images, masks = example()
    model = small()
    model.compile(loss="dice")
    rng = np.random.default_rng(1)
    logits, auxiliary = (rng.normal(size=(2, 6, 7, CLASSES)).astype("float32") for _ in "12")
    loss = model.compute_loss(images, masks, {"logits": logits, "auxiliary": auxiliary})
    dice = losses.UpsampledDice()
    assert float(loss) == pytest.approx(float(dice(masks, logits) + 0.4 * dice(masks, auxiliary)))


def test_unknown_and_unfit_losses_raise():
    with pytest.raises(ValueError, match="the loss 'dics' is unknown; choose from crossentropy, "):
        small().compile(loss="dics")
    with pytest.raises(ValueError, match="expects probabilities but PSPNet trains on logits"):
        small().compile(loss="categorical_crossentropy")
    weighted = losses.UpsampledSum([losses.UpsampledDice(class_weights=[1, 2])])
    with pytest.raises(ValueError, match="the loss has 2 class_weights but the model 3 classes"):
        small().compile(loss=weighted)
