import json
import signal
import subprocess
import sys
import time

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


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    ["efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "resnet50_v2"],
)
def test_a_backbone_by_name_resumes_exactly_after_a_kill(backbone, folder):
    def start(output):
        command = [sys.executable, "-m", "keras_psp", "train", "folder", "--quiet"]
        command += ["--data", str(folder / "data"), "--output", str(folder / output)]
        command += ["--backbone", backbone, "--output-stride", "16", "--weights", "none"]
        command += ["--bin-sizes", "1", "2", "--crop-size", "33", "--batch-size", "2"]
        command += ["--epochs", "4", "--checkpoint-steps", "1", "--color", "1"]
        command += ["--cutout", "0.5", "--class-mix", "0.5", "--layer-decay", "0.7"]
        command += ["--optimizer", "adamw", "--learning-rate", "0.001", "--schedule", "cosine"]
        return subprocess.Popen(command)

    def losses(output):
        path = folder / output / "steps.csv"
        rows = path.read_text().splitlines()[1:] if path.exists() else []
        return [row.split(",")[2] for row in rows]

    killed = start("killed")
    while len(losses("killed")) < 3:
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert start("killed").wait() == start("alone").wait() == 0
    assert len(losses("alone")) == 8
    assert losses("killed") == losses("alone")


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
