import numpy as np
import pytest

import keras_psp
from keras_psp.explanation import level_means, several
from keras_psp.prediction import Segmenter


@pytest.mark.parametrize("kept", [0, 10**6, 2**28])
def test_the_mean_over_the_images_replaces_the_levels(model, image, monkeypatch, kept):
    monkeypatch.setattr(several, "_KEPT_BYTES", kept)
    images = [image, image[::-1], image[:70, 20:]]
    means = level_means(images, model)
    explanations = list(several.explained_together(Segmenter(model), images))
    for given, explanation in zip(images, explanations, strict=True):
        expected = keras_psp.explain(given, model, reference=means)
        assert explanation.reference == expected.reference == "their mean over 3 images"
        np.testing.assert_array_equal(explanation.classes, expected.classes)
        np.testing.assert_array_equal(explanation.context().level, expected.context().level)


def test_large_maps_are_not_kept(model, image, monkeypatch):
    calls = []
    real = several.explained
    monkeypatch.setattr(several, "explained", lambda *a: calls.append(a[2]) or real(*a))
    nbytes = real(Segmenter(model), image, "image").nbytes
    monkeypatch.setattr(several, "_KEPT_BYTES", 2 * nbytes)
    list(several.explained_together(Segmenter(model), [image] * 3))
    assert calls[:3] == ["image"] * 3 and len(calls) == 4 and calls[3].images == 3


def test_a_single_image_is_replaced_by_its_own_mean(model, image):
    (explanation,) = several.explained_together(Segmenter(model), [image])
    assert explanation.reference == keras_psp.explain(image, model).reference
