"""Runs the commands of docs/own_data.md in an empty folder, in their order, with fewer epochs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.label_tools import labelme_file, save_json

from keras_psp.cli import main
from keras_psp.data import GeneratedScenes

PAGE = Path(__file__).parents[2] / "docs" / "own_data.md"
SMALLER = {"--epochs 20": "--epochs 1", "--crop-size 129": "--crop-size 65"}


def commands():
    """Returns the page's commands, without those that train larger networks."""
    text = PAGE.read_text("utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^    keras-psp (.*)$", text, re.MULTILINE)
    inline = re.findall(r"`keras-psp (labels .*?)`", text)
    return [
        command for command in [*blocks, *inline] if not re.search("runs/(mine|smaller)", command)
    ]


def label_in_labelme(folder):
    """Writes photos, labels.txt and what labelme saves: the sky, and the scene's lower part."""
    photos, masks = GeneratedScenes(image_size=(64, 80), counts={"all": 12}).arrays("all")
    folder.mkdir()
    for number, (photo, mask) in enumerate(zip(photos, masks, strict=True)):
        Image.fromarray(photo).save(folder / f"IMG_{number}.jpg")
        horizon = int(np.flatnonzero((mask == 0).any(axis=1))[-1])
        shapes = [
            ("sky", "rectangle", [[0, 0], [79, horizon]]),
            ("road", "polygon", [[0, 63], [79, 63], [40, horizon + 1]]),
        ]
        content = labelme_file(f"IMG_{number}.jpg", (64, 80), shapes)
        save_json(folder / f"IMG_{number}.json", content)
    (folder / "labels.txt").write_text("sky\nwater\nroad\nbuilding\n")


@pytest.mark.slow
def test_the_page_works_from_labels_to_an_export(tmp_path, monkeypatch, capsys):
    for module in ("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    label_in_labelme(tmp_path / "photos")
    (tmp_path / "new").mkdir()
    for number in range(3):
        photo = tmp_path / "photos" / f"IMG_{number}.jpg"
        (tmp_path / "new" / f"street{number}.jpg").write_bytes(photo.read_bytes())
    names = []
    for command in commands():
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        names.append(command.split()[0])
        assert main(shlex.split(command)) == 0, command
    assert names == ["check", "train", "evaluate", "predict", "export", "labels"]

    printed = capsys.readouterr().out
    lines = {line.rstrip() for line in printed.splitlines()}
    for block in re.findall(r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S):
        for line in block.splitlines():
            if not re.search(r"\d|[┏┃┡│├└]|^\.\.\.$", line):
                assert line in lines, line
    assert "3 done: predictions/predictions.csv" in printed
    for path in (
        "runs/trial/augmented.png",
        "runs/trial/pictures/epoch-0001.png",
        "runs/trial/curve.png",
        "predictions/street0_overlay.png",
        "predictions/street0_classes.png",
        "exported/trial.onnx",
        "exported/trial_int8.tflite",
        "FOLDER/classes.txt",
    ):
        assert (tmp_path / path).is_file(), path
    assert (tmp_path / "FOLDER/classes.txt").read_text().split() == [
        "background",
        "sky",
        "water",
        "road",
        "building",
    ]
