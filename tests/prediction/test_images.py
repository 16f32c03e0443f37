import keras
import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_predictor

import keras_psp
from keras_psp.prediction import Protocol, Segmenter, open_segmenter
from keras_psp.prediction import images as module
from keras_psp.weights import locating, opening
from keras_psp.weights.opening import open_model

NAMES = ("sky", "road", "car")
PALETTE = ((250, 0, 0), (0, 200, 0), (0, 0, 150))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return tiny_predictor(class_names=NAMES, palette=PALETTE)


def photo(number=0, height=40, width=56):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def saved(path, number=0):
    Image.fromarray(photo(number)).save(path)
    return path


def test_one_image_of_each_kind(model, tmp_path):
    expected = Segmenter(model).classes([photo()])[0]
    path = saved(tmp_path / "a.png")
    for source in (path, str(path), path.read_bytes(), Image.open(path), photo()):
        prediction = keras_psp.predict(source, model)
        np.testing.assert_array_equal(prediction.image, photo())
        np.testing.assert_array_equal(prediction.classes, expected)
        assert prediction.class_names == NAMES
    assert keras_psp.predict(path, model).name == "a"


def test_several_are_predicted_in_order_as_they_are_consumed(model):
    taken = []

    def images():
        for number in range(100):
            taken.append(number)
            yield photo(number)

    predictions = keras_psp.predict(images(), model, batch_size=2)
    for number in range(3):
        np.testing.assert_array_equal(next(predictions).image, photo(number))
    assert len(taken) < 40  # two per thread, of at most eight, and the batches


def test_a_damaged_image_among_several_is_skipped_and_reported(model, tmp_path, capsys):
    for number, name in enumerate(("a.png", "c.png")):
        saved(tmp_path / name, number)
    (tmp_path / "b.png").write_bytes(b"nothing")
    predictions = keras_psp.predict(tmp_path, model)
    assert [prediction.name for prediction in predictions] == ["a", "c"]
    ((origin, reason),) = predictions.failures
    assert origin == str(tmp_path / "b.png") and "is a text or document" in reason
    assert capsys.readouterr().err.startswith(f"skipped {origin}: ")
    with pytest.raises(ValueError, match="is a text or document"):
        keras_psp.predict(tmp_path / "b.png", model)
    with pytest.raises(FileNotFoundError, match=r"none.png: there is no such file"):
        keras_psp.predict(tmp_path / "none.png", model)


def test_probabilities_are_kept_and_saved_as_float16(model, tmp_path):
    prediction = keras_psp.predict(photo(), model, probabilities=True)
    expected = Segmenter(model).probabilities(photo())
    np.testing.assert_array_equal(prediction.probabilities, expected)
    np.testing.assert_array_equal(prediction.classes, expected.argmax(-1))
    path = prediction.save(tmp_path)[2]
    with np.load(path) as file:
        assert file["probabilities"].dtype == np.float16
        np.testing.assert_allclose(file["probabilities"], expected, atol=1e-3)
        assert tuple(file["class_names"]) == NAMES
    predictions = list(keras_psp.predict([photo(), photo(1)], model, probabilities=True))
    assert predictions[1].probabilities.shape == (40, 56, 3)


def test_options_go_to_the_segmenter_as_a_protocol(model, monkeypatch):
    given = []

    def seen(model, protocol):
        given.append(protocol)
        return open_segmenter(model, protocol)

    monkeypatch.setattr(module, "open_segmenter", seen)
    options = {"scales": (0.5, 1), "flip": True, "crop": 33, "overlap": 0.5}
    options |= {"base_size": 64, "batch_size": 2}
    keras_psp.predict(photo(), model, **options)
    assert given == [Protocol(**options)]


def test_presets_are_opened_once(model, monkeypatch):
    asked = []

    def from_preset(name):
        asked.append(name)
        return model

    monkeypatch.setattr(keras_psp.PSPNet, "from_preset", from_preset)
    opening._opened.cache_clear()
    name = "pspnet_r18-d8_512x512_80k_loveda"
    keras_psp.predict(photo(), name)
    keras_psp.predict(photo(), name)
    keras_psp.predict(photo())
    assert asked == [name, "pspnet_r18-d8_128x128_scenes"]
    opening._opened.cache_clear()


def test_without_a_model_the_bundled_one_is_used_at_its_base_size(capsys):
    locating._report_default.cache_clear()
    large = np.asarray(Image.fromarray(photo()).resize((560, 400)))
    prediction = keras_psp.predict(large)
    assert prediction.classes.shape == (400, 560) and "water" in prediction.class_names
    err = capsys.readouterr().err
    assert "knows generated scenes only; for photos choose a preset" in err
    assert "pspnet_r50-d8_512x512_160k_ade20k" in err
    bundled = open_model("pspnet_r18-d8_128x128_scenes")
    small_size = Segmenter(bundled, base_size=192).classes([large])[0]
    np.testing.assert_array_equal(prediction.classes, small_size)
    own_size = keras_psp.predict(large, base_size=560).classes
    assert (own_size != small_size).any()
    assert "model" not in capsys.readouterr().err  # reported once
    named = keras_psp.predict(large, "pspnet_r18-d8_128x128_scenes")
    np.testing.assert_array_equal(named.classes, small_size)
    np.testing.assert_array_equal(keras_psp.predict(large, bundled).classes, own_size)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("pspnet_r18", ValueError, "there is no preset 'pspnet_r18'; the nearest are"),
        ("none/best.keras", FileNotFoundError, "model 'none/best.keras': there is no such file"),
        ("empty", ValueError, "empty: neither best.keras nor last.keras is in this folder"),
        (3, TypeError, "model is an object of type int; it must be a PSPNet"),
    ],
)
def test_errors_name_a_model_that_cannot_be_opened(model, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        keras_psp.predict(photo(), model)
