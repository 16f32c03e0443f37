import json

import keras
import pytest
from support.datasets import random_camvid
from support.networks import random_network

from keras_psp.cli import main


@pytest.fixture
def arguments(tmp_path):
    source = random_camvid(tmp_path / "camvid")
    (tmp_path / "run").mkdir()
    random_network(11).save(tmp_path / "run" / "best.keras")
    data = ["camvid", "--data", str(source.root), "--partial", "--quiet"]
    return ["calibrate", *data, "--model", str(tmp_path / "run")]


def test_the_temperature_is_stored_in_the_run_and_replaced(arguments, tmp_path, capsys):
    assert main([*arguments, "--test-split", "test"]) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "run" / "calibration"
    first = json.loads((folder / "calibration.json").read_text())["temperature"]
    assert keras.saving.load_model(tmp_path / "run/best.keras").temperature == first != 1
    assert "ECE" in out and f"temperature {first:.4f} stored in" in out
    assert "calibrated before" not in err and "warning" not in err
    assert (folder / "reliability.png").exists()
    assert main([*arguments, "--flip"]) == 0
    out, err = capsys.readouterr()
    assert f"was calibrated before: its temperature is {first:g}" in err
    second = json.loads((folder / "calibration.json").read_text())["temperature"]
    assert keras.saving.load_model(tmp_path / "run/best.keras").temperature == second != first


def test_a_copy_leaves_the_network_as_it_is(arguments, tmp_path, capsys):
    before = (tmp_path / "run/best.keras").read_bytes()
    copy = tmp_path / "folder" / "new.keras"
    assert main([*arguments, "--save-as", str(copy), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "run/best.keras").read_bytes() == before
    assert keras.saving.load_model(copy).temperature != 1
    assert (tmp_path / "out/reliability.png").exists()


def test_mistakes_are_reported_before_the_network_runs(arguments, tmp_path, capsys):
    preset = [*arguments[:-1], "pspnet_r18-d8_128x128_scenes"]
    assert main(preset) == 1
    assert "give --save-as FILE.keras" in capsys.readouterr().err
    assert main([*preset, "--save-as", "a.h5"]) == 1
    assert "must end in .keras" in capsys.readouterr().err
    other = tmp_path / "other.keras"
    other.touch()
    assert main([*arguments, "--save-as", str(other)]) == 1
    assert "other.keras exists; choose another name" in capsys.readouterr().err
    assert main([*arguments, "--output", str(tmp_path)]) == 1
    assert "contains no calibration; choose another --output" in capsys.readouterr().err
    assert main([*arguments, "--test-split", "other"]) == 1
    assert "other" in capsys.readouterr().err
