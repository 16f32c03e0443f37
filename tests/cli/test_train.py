import json

import numpy as np
import pytest
from PIL import Image

from keras_psp.cli import main

SMALL = [
    *(
        "--weights",
        "none",
        "--backbone",
        "resnet18",
        "--stem-filters",
        "8",
        "--bin-sizes",
        "1",
        "2",
    ),
    *("--crop-size", "33", "41", "--batch-size", "2", "--epochs", "1", "--quiet"),
]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind, channels in (("images", 3), ("labels", 1)):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            for index in range(count):
                values = rng.integers(0, 256 if channels == 3 else 3, (40, 48, channels), "uint8")
                image = Image.fromarray(values if channels == 3 else values[..., 0])
                image.save(tmp_path / "data" / split / kind / f"{index}.png")
    (tmp_path / "data" / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path


@pytest.mark.slow
def test_training_and_resuming(folder, capsys):
    command = ["train", "folder", "--data", str(folder / "data"), "--output", str(folder / "run")]
    assert main([*command, *SMALL]) == 0
    out = capsys.readouterr().out
    assert "best mean IoU" in out and str(folder / "run" / "last.keras") in out
    recipe = json.loads((folder / "run" / "recipe.json").read_text())
    assert recipe["crop_size"] == [33, 41] and recipe["weights"] is None
    assert recipe["examples"] == 4
    assert main([*command, *SMALL, "--seed", "1"]) == 1
    assert "holds a run with --seed 0, not 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_image_stops_before_training_or_is_skipped(folder, capsys):
    broken = folder / "data" / "train" / "images" / "2.png"
    broken.write_bytes(broken.read_bytes()[:99])
    command = ["train", "folder", "--data", str(folder / "data"), "--output", str(folder / "run")]
    assert main([*command, *SMALL]) == 1
    assert str(broken) in capsys.readouterr().err
    assert main([*command, *SMALL, "--unreadable", "skip"]) == 0
    err = capsys.readouterr().err
    assert "1 " in err and "2.png" in err
    assert json.loads((folder / "run" / "recipe.json").read_text())["examples"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kitti"], "recipe 'kitti' is unknown"),
        (["folder", "--epochs", "many"], "--epochs many must be an integer"),
        (["ade20k"], "ade20k"),
        (["folder", "--data", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("KERAS_PSP_DATA", raising=False)
    assert main(["train", *arguments, "--output", str(tmp_path / "run")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("keras-psp: ") and message in err
    assert not (tmp_path / "run").exists()
