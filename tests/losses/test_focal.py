"""The focal loss; test_upsampled.py has what all losses share."""

import keras
import numpy as np
import pytest
from support.losses import CLASSES, example, value_and_gradient

from keras_psp.layers.resampling import resize_bilinear
from keras_psp.losses import UpsampledCrossentropy, UpsampledFocalCrossentropy


def test_by_hand():
    # Two classes and logits 0, x: the probability of label 1 is sigmoid(x).
    chances = np.array([[0.2, 0.6, 0.9]])
    logits = np.stack([0 * chances, np.log(chances / (1 - chances))], -1)[None]
    loss = UpsampledFocalCrossentropy(gamma=2.0)(np.ones((1, 1, 3), "int32"), logits)
    expected = -(0.64 * np.log(0.2) + 0.16 * np.log(0.6) + 0.01 * np.log(0.9)) / 3
    assert float(loss) == pytest.approx(expected)


def test_the_sigmoid_form_by_hand():
    # Class 0 isn't the label and has factor 0.7, class 1 is and has factor 0.3.
    logits, labels = np.array([[[[0.4, -1.1]]]]), np.ones((1, 1, 1), "int32")
    p = 1 / (1 + np.exp(-logits[0, 0, 0]))
    others, own = -0.7 * p[0] ** 2 * np.log(1 - p[0]), -0.3 * (1 - p[1]) ** 2 * np.log(p[1])
    loss = UpsampledFocalCrossentropy(activation="sigmoid", alpha=0.3)(labels, logits)
    assert float(loss) == pytest.approx((others + own) / 2, rel=1e-14)


def test_equals_the_loss_of_keras():
    logits, masks = example()
    masks[masks == 255] = 0
    target = np.eye(CLASSES)[masks]
    stock = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    full = resize_bilinear(logits.astype("float32"), masks.shape[1:], align_corners=True)
    loss = UpsampledFocalCrossentropy()(masks, logits)
    np.testing.assert_allclose(loss, stock(target, full), rtol=1e-5)


def test_without_gamma_it_is_the_crossentropy():
    logits, masks = example()
    actual = value_and_gradient(lambda x: UpsampledFocalCrossentropy(gamma=0.0)(masks, x), logits)
    expected = value_and_gradient(lambda x: UpsampledCrossentropy()(masks, x), logits)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-15)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_certain_pixels_have_finite_gradients(gamma, activation):
    masks = np.array([[[0, 1]]])
    logits = np.array([[[[1e4, -1e4], [1e4, -1e4]]]], "float32")
    loss = UpsampledFocalCrossentropy(gamma=gamma, activation=activation)
    value, gradient = value_and_gradient(lambda x: loss(masks, x), logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not gradient[0, 0, 0].any()  # the pixel that is right
    assert gradient[0, 0, 1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1}, "gamma is -1; it must be a finite number >= 0"),
        ({"activation": "relu"}, "activation is 'relu'; choose one of 'softmax', 'sigmoid'"),
        ({"alpha": 0.25}, "alpha=0.25 needs activation='sigmoid'; .* class_weights"),
        ({"alpha": 2, "activation": "sigmoid"}, "alpha is 2; .* >= 0 and <= 1"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        UpsampledFocalCrossentropy(**options)
