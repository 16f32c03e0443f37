import numpy as np
import pytest
from PIL import Image
from support.networks import random_network

import keras_psp
from keras_psp.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a training run, with a photo."""
    folder = tmp_path_factory.mktemp("run")
    model = random_network(3, seed=3, fusion_filters=16)
    model.class_names = ["sky", "boat", "car"]
    model.save(folder / "best.keras")
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype("uint8")
    Image.fromarray(coarse).resize((121, 90)).save(folder / "photo.png")
    return folder


def command(run, *more):
    return ["explain", str(run / "photo.png"), "--model", str(run), "--quiet", *more]


def test_explain_writes_one_figure_and_prints_the_parts(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command(run, "--pixel", "30", "40")) == 0
    out, _ = capsys.readouterr()
    explanation = keras_psp.explain(run / "photo.png", run)
    assert out.splitlines() == [
        str(explanation.pixel(30, 40)),
        str(explanation.context()),
        "photo_explanation.png",
    ]
    with Image.open("photo_explanation.png") as figure:
        assert figure.width > 1000
    assert main(command(run)) == 1
    message = "photo_explanation.png exists; choose another --output, or --force."
    assert capsys.readouterr().err == f"keras-psp: {message}\n"
    assert main(command(run, "--force")) == 0


def test_classes_reference_and_base_size(run, tmp_path, capsys):
    more = ["--classes", "boat", "car", "--reference", str(run), "--base-size", "100"]
    assert main(command(run, *more, "--output", str(tmp_path / "why.jpg"))) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("boat minus car at ") and "their mean over 1 images" in out
    assert (tmp_path / "why.jpg").read_bytes().startswith(b"\xff\xd8")
    assert main(command(run, "--classes", "sky", "--output", str(tmp_path / "sky.png"))) == 0
    assert capsys.readouterr().out.startswith("sky at ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--pixel", "121", "0"], "--pixel 121 0: X must be from 0 to 120 in this image of 121x90"),
        (["--classes", "bot"], "class 'bot' is unknown; the network has sky, boat, car"),
        (["--classes", "sky", "boat", "car"], "--classes has 3 names; give one or two"),
        (["--reference", "none/*.jpg"], "none/*.jpg: no file matches this pattern"),
        (
            ["--output", "why.pnx"],
            "--output why.pnx isn't the name of an image file; end it in .png",
        ),
        (["--base-size", "-1"], "base_size is -1; it must be an integer from 1"),
    ],
)
def test_mistakes_are_one_line(run, more, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command(run, *more)) == 1
    err = capsys.readouterr().err
    assert err.startswith("keras-psp: ") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
