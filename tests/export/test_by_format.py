import inspect

import keras
import numpy as np
import pytest

from keras_psp import export
from keras_psp.export.by_format import FORMATS, KERAS_FORMATS

NEEDED = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}


def images(*size):
    return np.random.default_rng(1).integers(0, 256, (1, *size, 3)).astype("uint8")


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("tf_saved_model", "pspnet"),
        ("onnx", "pspnet.onnx"),
        ("openvino", "pspnet"),
        ("litert", "pspnet.tflite"),
    ],
)
def test_every_format_runs_in_its_runtime_at_two_sizes(format, name, model, tmp_path):
    pytest.importorskip(NEEDED.get(format, "tensorflow"))
    export.export_model(model, tmp_path / name, format=format, verbose=False, output="logits")
    run = export.open_export(tmp_path / name)
    for size in ((49, 57), (64, 41)):
        expected = model.predict(images(*size).astype("float32"), verbose=0)
        logits = run(images(*size))
        assert np.abs(logits - expected).max() < 1e-4 * np.ptp(expected)
        assert np.mean(logits.argmax(-1) == expected.argmax(-1)) > 0.999


def test_options_and_verbosity_reach_the_exporter(model, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    path = tmp_path / "pspnet.onnx"
    options = {"image_size": (49, 57), "batch_size": 1, "input_signature": None}
    export.export_model(model, path, format="onnx", verbose=0, **options)
    assert capsys.readouterr().err == ""
    classes = export.open_export(path)(images(49, 57))
    assert classes.shape == (1, 49, 57) and classes.dtype == "uint8"
    export.export_model(model, path, format="onnx", **options)
    assert "pspnet.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "torch"}, "format='torch' is unknown; choose one of tf_saved_model, litert"),
        ({"input_signature": [1]}, r"no option input_signature=\[1\]; give image_size="),
        ({"format": "onnx", "opset_version": 18}, "ONNX files use opset 17"),
        ({"jax2tf_kwargs": {}}, "runs on Keras' TensorFlow backend"),
        ({"format": "litert", "optimizations": []}, "optimizations=.*; give precision="),
        ({"format": "litert", "batch_size": 2}, "batch_size=2; choose from image_size, precision"),
        ({"format": "onnx", "progress": True}, "no option progress=True; give verbose="),
    ],
)
def test_options_of_keras_are_refused_with_a_remedy(arguments, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.export_model(model, tmp_path / "pspnet", **arguments)
    assert not list(tmp_path.iterdir())


def test_every_format_of_keras_but_its_own_is_known():
    formats = inspect.getsource(keras.Model.export)
    for name in KERAS_FORMATS.keys() - {"tflite"}:
        assert f'"{name}"' in formats
    assert set(KERAS_FORMATS.values()) <= FORMATS.keys()


def test_quantize_is_refused_with_a_call_that_works(model, tmp_path):
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ValueError, match="doesn't quantize convolutions") as raised:
        model.quantize("int8")
    options = {"format": "litert", "precision": "int8", "image_size": (49, 57)}
    assert all(f"{name}=" in str(raised.value) for name in (*options, "representative"))
    path = tmp_path / "a.tflite"
    model.export(path, verbose=False, representative=images(49, 57), **options)
    assert export.open_export(path)(images(49, 57)).shape == (1, 49, 57)
