import numpy as np
import pytest

from keras_psp import DilatedResNet, PSPNet, export
from keras_psp.export.inference import written_aside


@pytest.fixture(scope="module")
def model():
    return PSPNet(4, backbone=DilatedResNet(18, stem_filters=(8,), name="backbone"))


def images(*size):
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("float32")


def test_saved_model_takes_any_size(model, tmp_path):
    export.saved_model(model, tmp_path / "saved")
    opened = export.open_saved_model(tmp_path / "saved")
    for size in ((49, 57), (64, 41)):
        expected = model.predict(images(*size), verbose=0)
        np.testing.assert_allclose(opened(images(*size)), expected, atol=1e-4 * np.ptp(expected))
    # A second export replaces the first, and leaves nothing beside it.
    export.saved_model(model, tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_tflite(model, tmp_path):
    export.tflite(model, tmp_path / "model.tflite", image_size=(49, 57))
    opened = export.open_tflite(tmp_path / "model.tflite")
    expected = model.predict(images(49, 57), verbose=0)
    np.testing.assert_allclose(opened(images(49, 57)), expected, atol=1e-4 * np.ptp(expected))


def test_mixed_precision_is_exported_in_float32(model, tmp_path):
    backbone = DilatedResNet(18, stem_filters=(8,), dtype="mixed_bfloat16", name="backbone")
    half = PSPNet(4, backbone=backbone, dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    export.tflite(half, tmp_path / "half.tflite", image_size=(49, 57))
    expected = model.predict(images(49, 57), verbose=0)
    found = export.open_tflite(tmp_path / "half.tflite")(images(49, 57))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


def test_a_failed_export_leaves_the_old_one(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")

    def fail():
        with written_aside(path) as aside:
            aside.write_bytes(b"half")
            raise RuntimeError("converter")

    with pytest.raises(RuntimeError, match="converter"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_backends_are_told_to_use_tensorflow(model, tmp_path, monkeypatch):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="Keras runs on jax; save the model as"):
        export.saved_model(model, tmp_path / "saved")
