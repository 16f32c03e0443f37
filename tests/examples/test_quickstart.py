import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.logs import foreign_lines

from keras_psp import data

ROOT = Path(__file__).parents[2]


def quickstart(tmp_path, *arguments):
    without_level = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / "quickstart.py"),
            *("--epochs", "1", "--batch-size", "2"),
            *("--output", str(tmp_path / "run"), "--export", str(tmp_path / "saved_models")),
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**without_level, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert foreign_lines(run.stderr) == []
    return run.stdout


def test_images_of_different_sizes_are_drawn(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / "data/test" / kind).mkdir(parents=True)
    for name, size in (("a", (64, 48)), ("b", (80, 60)), ("c", (50, 70))):
        mask = np.zeros(size, "uint8")
        mask[: size[0] // 2] = 1
        Image.fromarray(np.stack([mask * 100] * 3, -1)).save(
            tmp_path / f"data/test/images/{name}.png"
        )
        Image.fromarray(mask).save(tmp_path / f"data/test/labels/{name}.png")
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "examples/quickstart.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    model = SimpleNamespace(predict_classes=lambda images, verbose: np.zeros(images.shape[:3], int))
    source = data.ImageFolder(tmp_path / "data")
    images = script.draw(model, source, "test", (64, 48), tmp_path / "drawn.png")
    assert images.shape == (3, 64, 48, 3)
    assert (tmp_path / "drawn.png").exists()


@pytest.mark.slow
def test_a_folder_without_a_test_split_is_evaluated_on_val(tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for i in range(2):
            mask = np.repeat([[0], [1]], 32, axis=0).repeat(64, axis=1).astype("uint8")
            image = np.stack([mask * 100] * 3, -1)
            Image.fromarray(image).save(tmp_path / f"data/{split}/images/{i}.png")
            Image.fromarray(mask).save(tmp_path / f"data/{split}/labels/{i}.png")
    printed = quickstart(tmp_path, "--data", str(tmp_path / "data"))
    assert "val split, 2 images" in printed


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--baseline",)])
def test_trains_evaluates_draws_and_exports(tmp_path, extra):
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for i in range(20):
        mask = np.repeat(rng.integers(0, 3, (4, 4)), 16, axis=0).repeat(16, axis=1)
        image = np.stack([mask * 80 + 20] * 3, -1) + rng.integers(0, 20, (64, 64, 3))
        Image.fromarray(image.astype("uint8")).save(tmp_path / f"data/images/{i}.png")
        Image.fromarray(mask.astype("uint8")).save(tmp_path / f"data/labels/{i}.png")
    printed = quickstart(tmp_path, "--data", str(tmp_path / "data"), *extra)
    assert "mean IoU" in printed
    assert printed.count("of pixels equal") == 2
    for line in printed.splitlines():
        if "of pixels equal" in line:
            assert float(line.split()[1]) >= 99.9
    name = "fcn" if extra else "pspnet"
    with Image.open(tmp_path / "run" / f"{name}.png") as image:
        assert min(image.size) > 200
    assert (tmp_path / "saved_models" / f"{name}.tflite").stat().st_size > 1e6
    assert (tmp_path / "run" / f"{name}.keras").exists()
