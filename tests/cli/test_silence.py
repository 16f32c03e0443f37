"""What the commands write to stderr when TensorFlow's variables aren't set."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.logs import foreign_lines

CODE = "import sys; sys.argv[0] = 'keras-psp'; from keras_psp.cli import main; sys.exit(main())"


def stderr_of(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
def test_training_to_export_logs_nothing_foreign(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        mask = np.zeros((40, 48), np.uint8)
        mask[:, rng.integers(10, 40) :] = 1
        image = (mask[..., None] * 120 + rng.integers(0, 60, (40, 48, 3))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"data/images/{number}.png")
        Image.fromarray(mask).save(tmp_path / f"data/labels/{number}.png")
    data = ("folder", "--data", "data")
    small = ("--backbone", "resnet18", "--weights", "none", "--bin-sizes", "1", "2")
    small += ("--batch-size", "4", "--crop-size", "41", "--epochs", "1")
    errors = {
        name: stderr_of(tmp_path, name, *arguments)
        for name, arguments in {
            "check": ("data", "--output", "sheet"),
            "train": (*data, "--output", "run", *small),
            "evaluate": (*data, "--model", "run", "--output", "results"),
            "predict": ("data/images", "--model", "run", "--output", "predictions"),
        }.items()
    }
    formats = ("saved_model", "tf_serving", "tflite", "tflite:int8", "onnx", "onnx:int8")
    formats += ("openvino", "openvino:int8") if sys.platform != "win32" else ()
    sizes = ("--image-size", "41", "49", "--check", *data)
    errors["export"] = stderr_of(tmp_path, "export", "run", "--format", *formats, *sizes)
    assert [line for text in errors.values() for line in foreign_lines(text)] == []
    assert "Predicting" in errors["predict"] and "running it once" in errors["export"]


def test_a_file_of_log_lines_is_recognized():
    text = (
        "I0000 00:00:1.1 1 a.cc:1] x\nours\r2026-01-01 00:00:00.1: W tensorflow/x\nWARNING: absl\n"
    )
    assert len(foreign_lines(text)) == 3
    assert foreign_lines("Predicting: 2 of 2\nr.onnx: running it once\n") == []
