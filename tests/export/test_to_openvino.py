import json

import numpy as np
import pytest
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import export

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
pytest.importorskip("onnx", reason="needs the extra openvino")


@pytest.fixture(scope="module")
def model():
    return tiny_pspnet(backbone=tiny_backbone())


def images(*size, count=2):
    return np.random.default_rng(1).integers(0, 256, (count, *size, 3)).astype("uint8")


@pytest.mark.parametrize("image_size", [None, (65, 81)])
def test_same_logits(model, tmp_path, image_size):
    options = {"image_size": image_size, "output": "logits", "progress": False}
    export.openvino(model, tmp_path / "m", **options)
    batch = images(65, 81)
    expected = model.predict(batch.astype("float32"), verbose=0)
    logits = export.open_openvino(tmp_path / "m")(batch)
    np.testing.assert_allclose(logits, expected, atol=5e-5 * np.ptp(expected))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.bin", "model.xml"]
    # Kernels are transformed when the model is opened, not stored so.
    size = (tmp_path / "m" / "model.bin").stat().st_size
    assert size < 1.2 * 4 * sum(w.size for w in model.get_weights())


def test_the_graph_itself_refuses_small_images(model, tmp_path):
    export.openvino(model, tmp_path / "m", progress=False)
    compiled = openvino.compile_model(tmp_path / "m" / "model.xml", "CPU")
    assert compiled(images(41, 50))["classes"].shape == (2, 41, 50)
    with pytest.raises(RuntimeError, match="image_needs_41_pixels_per_side"):
        compiled(images(40, 50))


def test_bfloat16_and_metadata(model, tmp_path):
    export.openvino(model, tmp_path / "m", precision="bfloat16", license="MIT", progress=False)
    batch = images(65, 81)
    expected = model.predict_classes(batch.astype("float32"), verbose=0)
    assert np.mean(export.open_openvino(tmp_path / "m")(batch) == expected) > 0.9
    read = openvino.Core().read_model(tmp_path / "m" / "model.xml")
    about = json.loads(read.get_rt_info("keras_psp").astype(str))
    assert about["license"] == "MIT" and about["num_classes"] == 4


@pytest.mark.parametrize("size", [None, (65, 81)])
def test_the_bfloat16_file_is_the_same_network_in_float32(model, tmp_path, size):
    options = {"image_size": size, "output": "logits", "progress": False}
    export.openvino(model, tmp_path / "m", precision="bfloat16", **options)
    batch = images(65, 81)
    expected = model.predict(batch.astype("float32"), verbose=0)
    logits = export.open_openvino(tmp_path / "m", precision="float32")(batch)
    assert np.abs(logits - expected).max() < 1e-5 * np.ptp(expected)


def test_int8_is_accurate_and_quiet(model, tmp_path, capsys):
    pytest.importorskip("nncf", reason="needs the extra openvino")
    batch = images(65, 81, count=3)
    options = {"image_size": (65, 81), "precision": "int8", "progress": False}
    export.openvino(model, tmp_path / "m", representative=batch, **options)
    assert "%" not in "".join(capsys.readouterr())  # NNCF's progress bars
    expected = model.predict_classes(batch.astype("float32"), verbose=0)
    assert np.mean(export.open_openvino(tmp_path / "m")(batch) == expected) > 0.9


def test_bad_arguments_and_folders_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="precision is 'float16'; choose one of 'float32'"):
        export.openvino(model, tmp_path / "m", precision="float16")
    with pytest.raises(FileNotFoundError, match=r"has no model\.xml; give the folder"):
        export.open_openvino(tmp_path / "m")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"contains other files, e.g. notes\.txt"):
        export.openvino(model, tmp_path)
    (tmp_path / "notes.txt").unlink()
    export.openvino(model, tmp_path / "m", precision="bfloat16", progress=False)
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"contains other files, e.g. notes\.txt"):
        export.openvino(model, tmp_path / "m")
    with pytest.raises(ValueError, match="are 16x64 but this network needs at least 41"):
        export.open_openvino(tmp_path / "m")(images(16, 64))
    (tmp_path / "m" / "model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.bin"):
        export.open_openvino(tmp_path / "m")
