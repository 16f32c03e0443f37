"""Dice and Tversky; test_upsampled.py has what all losses share."""

import keras
import numpy as np
import pytest
from support.losses import CLASSES, example

from keras_psp.layers.resampling import resize_bilinear
from keras_psp.losses import UpsampledDice, UpsampledTversky


def two_classes(chances):
    """Logits (1, 1, n, 2) with these probabilities of class 1."""
    chances = np.array([chances])
    return np.stack([0 * chances, np.log(chances / (1 - chances))], -1)[None]


def test_by_hand():
    masks = np.array([[[1, 1, 0, 255]]])
    logits = two_classes([0.9, 0.4, 0.2, 0.7])
    # Class 1: TP 1.3, FP 0.2, FN 0.7. Class 0: TP 0.8, FP 0.7, FN 0.2. The last one is ignored.
    expected = 1 - (1.3 / (1.3 + 0.45) + 0.8 / (0.8 + 0.45)) / 2
    assert float(UpsampledDice()(masks, logits)) == pytest.approx(expected)
    scores = 1.3 / (1.3 + 0.3 * 0.2 + 0.7 * 0.7), 0.8 / (0.8 + 0.3 * 0.7 + 0.7 * 0.2)
    assert float(UpsampledTversky()(masks, logits)) == pytest.approx(1 - np.mean(scores))
    weighted = UpsampledTversky(class_weights=[3, 1])(masks, logits)
    assert float(weighted) == pytest.approx(1 - (scores[0] + 3 * scores[1]) / 4)


def test_a_class_without_labels_contributes_zero():
    masks = np.ones((1, 1, 2), "int32")
    # Class 1: TP 1.5, FN 0.5.
    expected = (1 - 1.5 / 1.75) / 2
    assert float(UpsampledDice()(masks, two_classes([0.8, 0.7]))) == pytest.approx(expected)


def test_sample_weights_count_pixels():
    masks, logits = np.array([[[1, 1, 0, 0]]]), two_classes([0.9, 0.4, 0.2, 0.7])
    weighted = UpsampledDice()(masks, logits, np.array([[[2.0, 1.0, 1.0, 0.0]]]))
    repeated = np.array([[[1, 1, 1, 0]]]), two_classes([0.9, 0.9, 0.4, 0.2])
    assert float(weighted) == pytest.approx(float(UpsampledDice()(*repeated)))


def test_equals_the_losses_of_keras():
    """Where every class occurs and nothing is ignored; Keras has alpha and beta swapped."""
    logits, masks = example()
    masks[masks == 255] = 5
    target = np.eye(CLASSES, dtype="float32")[masks]
    full = resize_bilinear(logits.astype("float32"), masks.shape[1:], align_corners=True)
    p = keras.ops.softmax(full)
    for loss, stock in [
        (UpsampledDice(), keras.losses.Dice(axis=(0, 1, 2))),
        (UpsampledTversky(), keras.losses.Tversky(alpha=0.7, beta=0.3, axis=(0, 1, 2))),
    ]:
        np.testing.assert_allclose(loss(masks, logits), stock(target, p), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_perfect_predictions_have_no_loss_and_finite_gradients(gamma):
    import tensorflow as tf

    masks = np.array([[[0, 1]]])
    logits = tf.constant([[[[1e3, -1e3], [-1e3, 1e3]]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = UpsampledTversky(gamma=gamma)(masks, logits)
    assert float(value) == 0
    assert np.isfinite(tape.gradient(value, logits)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha is -1; it must be a finite number >= 0"),
        ({"beta": "x"}, "beta is 'x'"),
        ({"gamma": 0}, "gamma is 0; it must be a finite number > 0"),
        ({"smooth": -1}, "smooth is -1"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        UpsampledTversky(**options)
