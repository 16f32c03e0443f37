import numpy as np
import pytest
from PIL import Image
from support import label_tools
from support.label_tools import colored, save_image

from keras_psp.cli import main
from keras_psp.data import ImageFolder
from keras_psp.data.loading import OWN_DATA
from keras_psp.training import RECIPES

MAKERS = {
    "labelme": label_tools.labelme,
    "coco_instances": label_tools.coco,
    "cvat": label_tools.cvat,
    "supervisely": label_tools.supervisely,
    "roboflow": label_tools.roboflow,
}


@pytest.fixture(scope="module")
def examples():
    return label_tools.scenes()


@pytest.mark.parametrize("name", MAKERS)
def test_labels_of_each_tool_are_recognized_and_converted(tmp_path, examples, name, capsys):
    if name in ("coco_instances", "cvat"):
        pytest.importorskip("pycocotools")
    MAKERS[name](tmp_path / "in", examples)
    out = tmp_path / "out"
    assert main(["labels", str(tmp_path / "in"), "--output", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == str(out)
    assert captured.out.splitlines()[-1].startswith("12 images: background ")
    assert f"{tmp_path / 'in'}: " in captured.err and "Converting" in captured.err
    folder = ImageFolder(out)
    assert folder.class_names == ("background", *label_tools.CLASSES)
    assert folder.check(progress=False) == 12


def test_colors_are_printed_as_lines_for_palette_txt(tmp_path, examples, capsys):
    root = tmp_path / "in"
    for scene in examples:
        save_image(root / "images" / f"{scene.name}.png", scene.image)
        save_image(root / "masks" / f"{scene.name}.png", colored(scene.mask()))
    command = ["labels", str(root), "--output", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith(f"# {root / 'palette.txt'}: replace NAME0")
    assert lines[1] == "0 0 0 0 NAME0" and len(lines) == 5
    assert captured.err.splitlines()[-1].startswith("keras-psp: ")
    (root / "palette.txt").write_text("\n".join(lines))
    assert main(command) == 0
    assert ImageFolder(tmp_path / "out").class_names == ("NAME0", "NAME1", "NAME2", "NAME3")


def test_patterns_and_a_label_map(tmp_path, examples, capsys):
    root = tmp_path / "in"
    for scene in examples:
        save_image(root / "img" / f"{scene.name}.jpg", scene.image)
        mask = np.array([0, 255, 128, 255], np.uint8)[scene.mask()]
        save_image(root / "img" / f"{scene.name}_m.png", mask)
    patterns = ["--images", "img/*.jpg", "--labels", "img/{stem}_m.png"]
    command = ["labels", str(root), *patterns, "--label-map", "255=1", "128=ignore", "--link"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    mask = label_tools.masks_of(ImageFolder(tmp_path / "out"), examples[:1])[0]
    np.testing.assert_array_equal(mask, np.array([0, 1, 255, 1])[examples[0].mask()])
    assert "ignored" in capsys.readouterr().out.splitlines()[-1]


def test_unlabeled_pixels_can_be_ignored(tmp_path, examples):
    label_tools.labelme(tmp_path / "in", examples)
    command = ["labels", str(tmp_path / "in"), "--unlabeled", "ignore", "--format", "labelme"]
    assert main([*command, "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert ImageFolder(tmp_path / "out").class_names == ("cat", "dog", "tree")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder."),
        (["."], ".: has neither images/ nor any of"),
        ([".", "--images", "*.jpg"], 'no image matches --images "*.jpg"; images end in'),
        ([".", "--label-map", "255"], "--label-map 255: must be VALUE=CLASS"),
        ([".", "--format", "cvat"], ".: has no .xml of CVAT; export the task"),
        (
            [".", "--format", "cvat", "--images", "*"],
            "cvat takes no argument 'images'; it takes unl",
        ),
        (
            [".", "--format", "folder", "--unlabeled", "ignore"],
            "folder takes no argument 'unlabeled'",
        ),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["labels", *arguments, "--output", "out"]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("keras-psp: ") and message in err
    assert not (tmp_path / "out").exists()


def test_a_used_output_is_refused(tmp_path, examples, capsys):
    label_tools.labelme(tmp_path / "in", examples)
    assert main(["labels", str(tmp_path / "in"), "--output", str(tmp_path / "in")]) == 1
    assert "is not empty (photo00.json); choose another --output." in capsys.readouterr().err
    (tmp_path / "in" / "photo00.json").write_text("{")  # the output is refused before it is read
    assert main(["labels", str(tmp_path / "in"), "--output", str(tmp_path / "in")]) == 1
    assert "is not empty (photo00.json); choose another --output." in capsys.readouterr().err


def test_check_recognizes_the_tool(tmp_path, examples, capsys):
    label_tools.labelme(tmp_path, examples)
    assert main(["check", str(tmp_path), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert "ready to train on" in captured.out and "1 cat" in captured.out
    assert "annotations of labelme (12 .json files)" in captured.err


def test_check_takes_a_label_map(tmp_path, capsys):
    for index, value in enumerate((0, 255, 255, 0)):
        save_image(tmp_path / "images" / f"{index}.png", np.zeros((4, 6, 3), np.uint8))
        save_image(tmp_path / "labels" / f"{index}.png", np.full((4, 6), value, np.uint8))
    command = ["check", str(tmp_path), "--split", "all", "--quiet"]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "give it an index: --label-map 255=1." in captured.out
    assert "Counting" not in captured.err  # --quiet
    assert main([*command, "--label-map", "255=1"]) == 0
    assert "1 class 1" in capsys.readouterr().out


def test_every_source_of_own_data_has_a_recipe():
    for name in OWN_DATA:
        assert RECIPES[name].dataset == name
        assert RECIPES[name].epochs == RECIPES["folder"].epochs


@pytest.mark.slow
def test_training_and_evaluation_read_the_labels_directly(tmp_path, examples, capsys):
    for scene in examples:
        save_image(tmp_path / "data" / f"{scene.name}.jpg", scene.image)
        mask = np.array([0, 255, 255, 255], np.uint8)[scene.mask()]
        save_image(tmp_path / "data" / f"{scene.name}_m.png", mask)
    data = ["--images", "*.jpg", "--labels", "{stem}_m.png", "--label-map", "255=1"]
    data = ["folder", "--data", str(tmp_path / "data"), *data, "--quiet"]
    small = ["--weights", "none", "--backbone", "resnet18", "--stem-filters", "8"]
    small += ["--bin-sizes", "1", "2", "--crop-size", "33", "--batch-size", "2", "--epochs", "1"]
    run = str(tmp_path / "run")
    assert main(["train", *data, "--output", run, *small]) == 0
    assert main(["evaluate", *data, "--model", run]) == 0
    assert "class 1" in capsys.readouterr().out
    label_tools.labelme(tmp_path / "labelme", examples)
    data = ["labelme", "--data", str(tmp_path / "labelme"), "--unlabeled", "ignore", "--quiet"]
    run = str(tmp_path / "other")
    assert main(["train", *data, "--output", run, *small]) == 0
    assert Image.open(tmp_path / "other" / "augmented.png").size[0] > 100
