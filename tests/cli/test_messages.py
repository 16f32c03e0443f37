import argparse

import numpy as np
import pytest
from PIL import Image

from keras_psp import cli
from keras_psp.cli import main
from keras_psp.cli.messages import sentence
from keras_psp.files import csv_text


def raised(function):
    with pytest.raises(BaseException) as caught:
        function()
    return caught.value


def ours(text):
    """An error as if a line of the package raised it."""
    error = ValueError(text)
    error.__traceback__ = None
    return error


OPTIONS = argparse.Namespace(
    field_epochs=3, field_crop_size=None, output="x", backbone=None, base_size=None, label_map=None
)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("r holds a run with epochs=3, not 4.", "r holds a run with --epochs 3, not 4."),
        ("with flip=False, not True;", "with flip=False, not True;"),
        ("with backbone=False, not True;", "without --backbone, not with it;"),
        ("with output=True, not False;", "with --output, not without it;"),
        ("crop_size=(64, 65) is wrong", "--crop-size 64 65 is wrong"),
        ("leave out backbone='resnet50'.", "leave out --backbone resnet50."),
        ("other=3 is a name in a file", "other=3 is a name in a file"),
        ("give output='{stem}_*.png'.", 'give --output "{stem}_*.png".'),
        ("pass complete=False", "pass --partial"),
        ("give base_size=None or the side", "give --base-size 0 or the side"),
        ("map it, e.g. label_map={255: 1, 7: 0}.", "map it, e.g. --label-map 255=1 7=0."),
    ],
)
def test_arguments_are_spelled_as_on_the_command_line(text, expected):
    assert sentence(ours(text), OPTIONS) == expected


def test_errors_of_other_packages_are_one_line_with_the_way_on():
    def fail():
        np.zeros(3) + np.zeros(4)

    text = sentence(raised(fail), OPTIONS)
    assert text.startswith("ValueError: operands could not be broadcast together")
    assert text.endswith("run the command again with --verbose and report what it prints.")
    assert "\n" not in text


def test_errors_of_the_system_name_the_file(tmp_path):
    text = sentence(raised((tmp_path / "absent").read_text), OPTIONS)
    assert text == (
        f"{tmp_path}/absent: no such file or directory; check the path, the permissions and the "
        "disk."
    )


def test_too_little_memory_has_a_remedy():
    assert "choose a smaller --batch-size" in sentence(MemoryError(), OPTIONS)
    error = type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor")
    assert "choose a smaller --batch-size" in sentence(error, OPTIONS)


@pytest.mark.parametrize("verbose", [False, True])
def test_whatever_fails_the_last_line_is_one_sentence(monkeypatch, capsys, verbose):
    def fail(options):
        raise KeyError("inner")

    monkeypatch.setitem(cli.SUBCOMMANDS, "presets", fail)
    assert main(["presets", *["--verbose"] * verbose]) == 1
    captured = capsys.readouterr().err
    assert captured.strip().split("\n")[-1].startswith("keras-psp: KeyError: 'inner'. This is")
    assert ("Traceback" in captured) == verbose


@pytest.mark.slow
def test_a_label_that_breaks_during_training_is_named(tmp_path, capsys):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(2):
            mask = np.zeros((64, 64), np.uint8)
            mask[:32] = 1
            noise = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(tmp_path / split / "labels" / f"{index}.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    path = tmp_path / "val" / "labels" / "1.png"
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(path)
    arguments = ["--backbone", "resnet18", "--weights", "none", "--crop-size", "57"]
    arguments += ["--batch-size", "2", "--epochs", "1", "--unreadable", "trust", "--quiet"]
    output = ["--data", str(tmp_path), "--output", str(tmp_path / "run")]
    assert main(["train", "folder", *output, *arguments]) == 1
    assert capsys.readouterr().err.strip().split("\n")[-1] == (
        f"keras-psp: {path}: label value 9 is neither a class (0 to 1) nor ignore_class (255); "
        'correct the file, name all classes, or map the value to a class or "ignore", e.g. '
        "--label-map 9=1."
    )


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1", "-1+1", "@SUM(A1)", "\t=1"])
def test_no_text_in_a_table_is_a_formula(text):
    assert csv_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["sky", "", "-0.5", "+1e3", "a=b", "'=1"])
def test_other_texts_stay_as_they_are(text):
    assert csv_text(text) == text
