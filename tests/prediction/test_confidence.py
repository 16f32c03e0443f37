import keras
import numpy as np
from PIL import Image

from keras_psp.prediction.confidence import (
    Confidence,
    best_and_confidence,
    log_probabilities,
    with_temperature,
)


def measured(scores, **options):
    scores = keras.ops.convert_to_tensor(np.array(scores, "float32"))
    best, maps = best_and_confidence(scores, **options)
    return np.asarray(best), np.asarray(maps)


def test_probability_margin_and_entropy_by_hand():
    probabilities = [[[0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]]]
    best, (probability, margin, entropy) = measured(probabilities, logits=False, temperature=1.0)
    assert best.tolist() == [[0, 2, 0]]
    np.testing.assert_allclose(probability, [[0.5, 1, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(margin, [[0.25, 1, 0]], atol=1e-6)
    # 1.5 bits of log2(3); none; all.
    np.testing.assert_allclose(entropy, [[1.5 / np.log2(3), 0, 1]], atol=1e-6)


def test_temperature_divides_logits_and_logarithms_of_averages_alike():
    logits = np.log(np.array([[[0.8, 0.2], [0.5, 0.5]]], "float32"))
    # Squared odds of 4 to 1 are 16 to 1.
    for scores, are_logits in ((logits, True), (np.exp(logits), False)):
        sharper = with_temperature(scores, logits=are_logits, temperature=0.5)
        np.testing.assert_allclose(sharper[0], [[16 / 17, 1 / 17], [0.5, 0.5]], rtol=1e-5)
        best, (probability, *_) = measured(scores, logits=are_logits, temperature=0.5)
        assert best[0, 0] == 0
        np.testing.assert_allclose(probability, [[16 / 17, 0.5]], rtol=1e-5)


def test_logarithms_are_finite_where_a_probability_is_zero():
    logs = log_probabilities(np.array([[1.0, 0.0]], "float32"), logits=False)
    assert logs[0, 0] == 0 and -90 < logs[0, 1] < -80
    logs = log_probabilities(np.array([[300.0, 0.0]], "float32"), logits=True)
    np.testing.assert_allclose(logs, [[0, -300]])


def test_maps_are_saved_with_16_bits_and_drawn_with_a_legend():
    probability = np.array([[0.0, 0.5], [1.0, 0.25]], "float32")
    confidence = Confidence(probability, probability, probability)
    assert list(confidence.maps()) == ["probability", "margin", "entropy"]
    image = confidence.images()["margin"]
    assert np.asarray(image).tolist() == [[0, 32768], [65535, 16384]]
    views = Confidence(probability, probability, probability, probability)
    assert list(views.images())[-1] == "disagreement"
    drawn = views.picture(np.zeros((2, 2, 3), "uint8"))
    assert isinstance(drawn, Image.Image) and drawn.mode == "RGB"
    assert drawn.width > confidence.picture(np.zeros((2, 2, 3), "uint8")).width


def test_other_bands_are_drawn():
    probability = np.full((4, 6), 0.5, "float32")
    confidence = Confidence(probability, probability, probability)
    for image in (np.zeros((4, 6, 1), "uint8"), np.zeros((4, 6, 4), "uint16")):
        assert confidence.picture(image).mode == "RGB"
