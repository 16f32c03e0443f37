import numpy as np
import pytest

from keras_psp import DilatedResNet, PSPNet, export


@pytest.fixture(scope="module")
def model():
    return PSPNet(4, backbone=DilatedResNet(18, stem_filters=(8,), name="backbone"))


def images(*size):
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("float32")


def test_saved_model_takes_any_size(model, tmp_path):
    export.saved_model(model, tmp_path / "saved", output="logits")
    opened = export.open_saved_model(tmp_path / "saved")
    for size in ((49, 57), (64, 41)):
        expected = model.predict(images(*size), verbose=0)
        np.testing.assert_allclose(opened(images(*size)), expected, atol=1e-4 * np.ptp(expected))
    with pytest.raises(ValueError, match=r"images have shape \(49, 57, 3\); give RGB batches"):
        opened(images(49, 57)[0])
    # A second export replaces the first, and leaves nothing beside it.
    export.saved_model(model, tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_exports_replace_nothing_but_exports(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is a folder; give the name of a file in it"):
        export.tflite(model, tmp_path, image_size=(49, 57))
    with pytest.raises(ValueError, match="holds other files and is no SavedModel"):
        export.saved_model(model, tmp_path)
    with pytest.raises(ValueError, match="is a file; a SavedModel is a folder"):
        export.saved_model(model, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_other_backends_are_told_to_use_tensorflow(model, tmp_path, monkeypatch):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="Keras runs on jax; save the model as"):
        export.saved_model(model, tmp_path / "saved")
