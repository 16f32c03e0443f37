from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.prediction import Prediction, Protocol, Segmenter, open_segmenter, outcomes
from keras_psp.prediction import images as module
from keras_psp.weights import opening
from keras_psp.weights.opening import digest, open_model

NAMES = ("sky", "road", "car")
PALETTE = ((250, 0, 0), (0, 200, 0), (0, 0, 150))


def small(num_classes=3, **arguments):
    backbone = keras_psp.DilatedResNet(18, stem_filters=(8,))
    arguments = {"backbone": backbone, "bin_sizes": (1, 2), "aux_weight": 0, **arguments}
    return keras_psp.PSPNet(num_classes, **arguments)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return small(class_names=NAMES, palette=PALETTE)


def photo(number=0, height=40, width=56):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def saved(path, number=0):
    Image.fromarray(photo(number)).save(path)
    return path


def by_hand():
    classes = np.array([[2, 2, 2, 2], [2, 2, 0, 0]], np.uint8)
    image = np.full((2, 4, 3), 100, np.uint8)
    return Prediction(image, classes, NAMES, np.array(PALETTE, np.uint8), "a", "b/a.png")


def test_shares_by_hand():
    found = by_hand()
    assert found.class_shares.tolist() == [0.25, 0, 0.75]
    assert list(found.shares.items()) == [("car", 0.75), ("sky", 0.25)]
    assert repr(found) == "<Prediction of b/a.png, 4x2: car 75.0%, sky 25.0%>"


def test_saved_files_contain_the_classes(tmp_path):
    prediction = by_hand()
    paths = prediction.save(tmp_path / "new")
    assert [path.name for path in paths] == ["a_overlay.png", "a_classes.png"]
    with Image.open(paths[1]) as image_file:
        assert image_file.mode == "P"
        np.testing.assert_array_equal(np.asarray(image_file), prediction.classes)
        assert tuple(image_file.getpalette()[:9]) == sum(PALETTE, ())
    with Image.open(paths[0]) as image_file:
        np.testing.assert_array_equal(np.asarray(image_file), np.asarray(prediction.overlay()))
    with pytest.raises(FileExistsError, match=r"a_overlay.png exists; .* force=True to replace"):
        prediction.save(tmp_path / "new")
    prediction.save(tmp_path / "new", force=True, suffix=".jpg")
    assert (tmp_path / "new" / "a_overlay.jpg").exists()


def test_more_than_256_classes_are_saved_with_16_bits_and_have_colors(tmp_path):
    model = SimpleNamespace(num_classes=300, class_names=None, palette=None)
    assert palette_of(model).shape == (300, 3)
    assert class_names_of(model)[299] == "class 299"
    classes = np.array([[299, 255]], np.uint16)
    image = np.zeros((1, 2, 3), np.uint8)
    prediction = Prediction(image, classes, class_names_of(model), palette_of(model))
    _, path = prediction.save(tmp_path)
    with Image.open(path) as image_file:
        assert path.read_bytes()[24] == 16  # bits per sample; Pillow's modes for them changed
        assert np.asarray(image_file).tolist() == [[299, 255]]


def test_notebooks_show_a_png_of_limited_size():
    image = np.zeros((1500, 2000, 3), np.uint8)
    prediction = Prediction(image, image[..., 0], NAMES, np.array(PALETTE))
    data = prediction._repr_png_()
    assert data.startswith(b"\x89PNG")
    import io

    assert max(Image.open(io.BytesIO(data)).size) == 1000


def test_one_image_of_each_kind(model, tmp_path):
    expected = Segmenter(model).classes([photo()])[0]
    path = saved(tmp_path / "a.png")
    for source in (path, str(path), path.read_bytes(), Image.open(path), photo()):
        found = keras_psp.predict(source, model)
        np.testing.assert_array_equal(found.image, photo())
        np.testing.assert_array_equal(found.classes, expected)
        assert found.class_names == NAMES
    assert keras_psp.predict(path, model).name == "a"


def test_several_are_predicted_in_order_as_they_are_consumed(model):
    taken = []

    def images():
        for number in range(100):
            taken.append(number)
            yield photo(number)

    found = keras_psp.predict(images(), model, batch_size=2)
    for number in range(3):
        np.testing.assert_array_equal(next(found).image, photo(number))
    assert len(taken) < 40  # two per thread, of at most eight, and the batches


def test_a_damaged_image_among_several_is_skipped_and_reported(model, tmp_path, capsys):
    for number, name in enumerate(("a.png", "c.png")):
        saved(tmp_path / name, number)
    (tmp_path / "b.png").write_bytes(b"nothing")
    found = keras_psp.predict(tmp_path, model)
    assert [prediction.name for prediction in found] == ["a", "c"]
    ((origin, reason),) = found.failures
    assert origin == str(tmp_path / "b.png") and "is a text or document" in reason
    assert capsys.readouterr().err.startswith(f"skipped {origin}: ")
    with pytest.raises(ValueError, match="is a text or document"):
        keras_psp.predict(tmp_path / "b.png", model)
    with pytest.raises(FileNotFoundError, match=r"none.png: there is no such file"):
        keras_psp.predict(tmp_path / "none.png", model)


def test_an_image_that_the_network_refuses_does_not_affect_the_others(model, monkeypatch):
    def classes(self, images):
        if any(image.shape[0] == 1 for image in images):
            raise ValueError("too small\nsecond line")
        return [np.zeros(image.shape[:2], np.uint8) for image in images]

    monkeypatch.setattr(Segmenter, "classes", classes)
    images = [photo(), photo(height=1), photo()]
    found = keras_psp.predict(images, model)
    assert len(list(found)) == 2
    reason = "image 2: the network can't process it: too small"
    assert found.failures == [("image 2", reason)]
    with pytest.raises(ValueError, match="the network can't process it: too small"):
        keras_psp.predict(images[1], model)


def test_lack_of_memory_is_reported_with_its_remedy(model, monkeypatch):
    def classes(self, images):
        raise MemoryError

    monkeypatch.setattr(Segmenter, "classes", classes)
    with pytest.raises(ValueError, match="not enough memory; set crop= or base_"):
        keras_psp.predict(photo(), model)

    def read(source, **options):
        raise MemoryError

    monkeypatch.setattr(outcomes, "read_input_image", read)
    with pytest.raises(ValueError, match="doesn't fit into memory; make it smaller"):
        keras_psp.predict(photo(), model)


def test_an_error_in_the_code_does_not_blame_the_image(model, monkeypatch):
    def classes(self, images):
        raise ZeroDivisionError

    monkeypatch.setattr(Segmenter, "classes", classes)
    with pytest.raises(ZeroDivisionError):
        keras_psp.predict(photo(), model)


def test_probabilities_are_kept_and_saved_as_float16(model, tmp_path):
    found = keras_psp.predict(photo(), model, probabilities=True)
    expected = Segmenter(model).probabilities(photo())
    np.testing.assert_array_equal(found.probabilities, expected)
    np.testing.assert_array_equal(found.classes, expected.argmax(-1))
    path = found.save(tmp_path)[2]
    with np.load(path) as file:
        assert file["probabilities"].dtype == np.float16
        np.testing.assert_allclose(file["probabilities"], expected, atol=1e-3)
        assert tuple(file["class_names"]) == NAMES
    found = list(keras_psp.predict([photo(), photo(1)], model, probabilities=True))
    assert found[1].probabilities.shape == (40, 56, 3)


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


def test_the_error_for_a_video_names_predict_files(model):
    with pytest.raises(ValueError, match=r"film.mp4: is a video; use .*predict_files"):
        keras_psp.predict("film.mp4", model)


def test_models_by_file_and_folder_are_opened_once(model, tmp_path):
    model.save(tmp_path / "last.keras")
    opened = open_model(tmp_path)
    assert digest(opened) == digest(model) != digest(small())
    assert opened.class_names == list(NAMES)
    assert open_model(tmp_path / "last.keras") is opened
    small().save(tmp_path / "best.keras")
    assert digest(open_model(tmp_path)) != digest(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"align_corners": False},
        {"pooling": "max"},
        {"mean": (1, 2, 3)},
        {"std": (50, 60, 70)},
        {"channel_order": "bgr"},
        {"palette": PALETTE[::-1]},
    ],
)
def test_digests_differ_if_settings_differ(model, changes):
    copy = keras_psp.PSPNet.from_config({**model.get_config(), **changes})
    copy.set_weights(model.get_weights())
    assert digest(copy) != digest(model)


@pytest.mark.parametrize(
    ("stride", "dtype"), [(8, "float32"), (16, "float32"), (8, "mixed_bfloat16")]
)
def test_digests_differ_if_stride_or_dtype_differs(model, stride, dtype):
    backbone = keras_psp.DilatedResNet(18, stem_filters=(8,), output_stride=stride)
    copy = small(backbone=backbone, class_names=NAMES, palette=PALETTE, dtype=dtype)
    copy.set_weights(model.get_weights())
    assert (digest(copy) == digest(model)) == (stride == 8 and dtype == "float32")


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_digest_does_not_depend_on_name_file_or_freezing(dtype, tmp_path):
    first, second = small(dtype=dtype, name="first"), small(dtype=dtype, name="second")
    second.set_weights(first.get_weights())
    second.backbone.trainable = False
    assert digest(first) == digest(second)
    second.save(tmp_path / "second.keras")
    assert digest(keras.saving.load_model(tmp_path / "second.keras")) == digest(first)


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
    opening._report_default.cache_clear()
    large = np.asarray(Image.fromarray(photo()).resize((560, 400)))
    found = keras_psp.predict(large)
    assert found.classes.shape == (400, 560) and "water" in found.class_names
    err = capsys.readouterr().err
    assert "knows generated scenes only; for photos choose a preset" in err
    assert "pspnet_r50-d8_512x512_160k_ade20k" in err
    bundled = open_model("pspnet_r18-d8_128x128_scenes")
    small_size = Segmenter(bundled, base_size=192).classes([large])[0]
    np.testing.assert_array_equal(found.classes, small_size)
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
