import keras
import pytest
from support import datasets
from support.networks import tiny_predictor

import keras_psp
import keras_psp.export
from keras_psp.cli import main

pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a training, next to a CamVid of a few images."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(1)
    tiny_predictor(11).save(folder / "best.keras")
    datasets.camvid(folder / "CamVid")
    return folder


@pytest.mark.slow
def test_exports_and_their_check(run, tmp_path, capsys):
    command = ["export", str(run), "--name", "street", "--output", str(tmp_path), "--quiet"]
    size = ["--image-size", "24", "32", "--license", "MIT"]
    data = ["--check", "camvid", "--data", str(run / "CamVid"), "--partial", "--split", "test"]
    formats = ["--format", "onnx", "onnx:int8", "tf_serving", "tflite"]
    assert main([*command, *formats, *size, *data, "--reduce-range"]) == 0
    out = capsys.readouterr().out
    names = ["street.onnx", "street_int8.onnx", "street/1", "street.tflite"]
    assert out.splitlines()[:4] == [str(tmp_path / name) for name in names]
    assert all((tmp_path / name).exists() for name in names)
    assert "mean IoU" in out and "network" in out and "street/1 " in out.split("mean IoU")[1]
    import onnx

    network = onnx.load(tmp_path / "street_int8.onnx").graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in network.initializer]
    assert max(abs(w).max() for w in weights if w.dtype == "int8") <= 64  # 7 bits
    about = keras_psp.export.tflite_metadata(tmp_path / "street.tflite")
    assert about["license"] == "MIT" and about["input"]["shape"] == [1, 24, 32, 3]
    # A second version, of logits this time and any size.
    assert main([*command, "--format", "tf_serving", "--result", "logits"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'street' / '2'}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "pickle"], "--format pickle: choose one of saved_model"),
        (["--format", "onnx", "--name", "../../escaped"], "'../../escaped' is a path, not a name"),
        (["--format", "tf_serving", "--name", ".."], "'..' is a path, not a name; give a --name"),
        (["--format", "saved_model", "--name", "/etc"], "'/etc' is a path, not a name"),
        (["--format", "saved_model", "--name", ""], "'' is a path, not a name"),
        (["--format", "onnx:int4"], "the precisions of onnx are float32, int8, not int4"),
        (["--format", "onnx:int8"], "name a data set: --check DATASET --data FOLDER"),
        (["--format", "onnx", "onnx:int8", "--check", "camvid"], "int8 needs one image size; give"),
        (
            [
                "--format",
                "onnx",
                "tflite:int8",
                "--check",
                "camvid",
                "--image-size",
                "49",
                "49",
                "--result",
                "probabilities",
            ],
            "tflite:int8 has none; choose logits or classes",
        ),
        (
            ["--format", "onnx", "--data", "photos"],
            "--data, --limit and the options for labels are only for",
        ),
        (["--format", "onnx", "--check", "camvid", "--limit", "0"], "--limit is 0; it must be an"),
        (["--format", "tflite", "--reduce-range"], "--reduce-range is for --format onnx:int8"),
        (["--format", "tflite", "--batch-size", "2"], "a TFLite file takes one image"),
        (
            ["--format", "onnx", "--batch-size", "2", "--check", "camvid"],
            "uses one image at a time",
        ),
        (["--format", "onnx", "--image-size", "3", "4"], "images of 3x4 give a feature map"),
    ],
)
def test_errors_are_one_sentence(run, tmp_path, arguments, message, capsys):
    output = tmp_path / "a" / "b"
    assert main(["export", str(run), *arguments, "--output", str(output), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())
