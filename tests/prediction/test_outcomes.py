import numpy as np
import pytest
from support.networks import tiny_predictor

import keras_psp
from keras_psp.prediction import Segmenter, outcomes


@pytest.fixture(scope="module")
def model():
    return tiny_predictor()


def photo(height=40):
    return np.random.default_rng(0).integers(0, 256, (height, 56, 3), np.uint8)


def test_an_image_that_the_network_refuses_does_not_affect_the_others(model, monkeypatch):
    def classes(self, images):
        if any(image.shape[0] == 1 for image in images):
            raise ValueError("too small\nsecond line")
        return [np.zeros(image.shape[:2], np.uint8) for image in images]

    monkeypatch.setattr(Segmenter, "classes", classes)
    images = [photo(), photo(height=1), photo()]
    predictions = keras_psp.predict(images, model)
    assert len(list(predictions)) == 2
    reason = "image 2: the network can't process it: too small"
    assert predictions.failures == [("image 2", reason)]
    with pytest.raises(ValueError, match="the network can't process it: too small"):
        keras_psp.predict(images[1], model)


def test_lack_of_memory_is_reported_with_its_remedy(model, monkeypatch):
    def classes(self, images):
        raise MemoryError

    monkeypatch.setattr(Segmenter, "classes", classes)
    with pytest.raises(ValueError, match="not enough memory; set crop= or base_"):
        keras_psp.predict(photo(), model)

    def read(source, channels, **options):
        raise MemoryError

    monkeypatch.setattr(outcomes, "read_any", read)
    with pytest.raises(ValueError, match="doesn't fit into memory; make it smaller"):
        keras_psp.predict(photo(), model)


def test_an_error_in_the_code_does_not_blame_the_image(model, monkeypatch):
    def classes(self, images):
        raise ZeroDivisionError

    monkeypatch.setattr(Segmenter, "classes", classes)
    with pytest.raises(ZeroDivisionError):
        keras_psp.predict(photo(), model)


def test_the_error_for_a_video_names_predict_files(model):
    with pytest.raises(ValueError, match=r"film.mp4: is a video; use .*predict_files"):
        keras_psp.predict("film.mp4", model)
