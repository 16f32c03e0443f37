"""Every recipe trains two steps or more on a miniature copy of its data set."""

import csv
import json

import numpy as np
import pytest
from support import datasets, label_tools

import keras_psp
from keras_psp.cli import main
from keras_psp.data import GeneratedScenes
from keras_psp.training import RECIPES

pytestmark = pytest.mark.slow

OWN = {
    "labelme": label_tools.labelme,
    "coco_instances": label_tools.coco,
    "cvat": label_tools.cvat,
    "supervisely": label_tools.supervisely,
    "roboflow": label_tools.roboflow,
}
# The depths are those of one recipe; the others have the same networks.
DEEP = [f"ade20k_resnet{depth}" for depth in (50, 101, 152, 269)]


def miniature(recipe, root):
    """The data of a recipe: a source, or the folder of a small copy."""
    if recipe.dataset == "scenes":
        return GeneratedScenes(counts={"train": 2, "val": 1}, image_size=(64, 64))
    if recipe.dataset in datasets.MAKERS:
        datasets.MAKERS[recipe.dataset](root)
    elif recipe.dataset in OWN:
        OWN[recipe.dataset](root, label_tools.scenes(12))
    else:
        for split in ("train", "val"):
            for index in range(2):
                datasets.write_example(root / split, f"{split}{index}", value=index, size=(64, 48))
        if recipe.dataset == "list":
            for split in ("train", "val"):
                names = [f"{split}{index}.png" for index in range(2)]
                lines = [f"{split}/images/{name} {split}/labels/{name}" for name in names]
                datasets.write_lines(root / f"{split}.txt", lines)
    return root


def steps(output):
    with (output / "steps.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_starts(name, tmp_path):
    recipe = RECIPES[name]
    if recipe.dataset == "lmo":
        pytest.importorskip("scipy", reason="extra 'mat'")
    if recipe.dataset in ("coco_instances", "cvat"):
        pytest.importorskip("pycocotools", reason="extra 'labels'")
    fields = {"weights": None, "batch_size": 1, "crop_size": 49, "epochs": 1, "warmup_steps": 0}
    if recipe.output_stride == 16:
        fields["crop_size"] = 97
    if recipe.output_stride == 16 or recipe.dataset == "roboflow":
        fields["validation_epochs"] = 0  # whole images are too small for the pyramid
    if recipe.has_resnet and name not in DEEP:
        fields |= {"backbone": "resnet18", "stem_filters": (8,)}
    output = tmp_path / "run"
    keras_psp.train(
        recipe,
        data=miniature(recipe, tmp_path / "data"),
        output=output,
        complete=False,
        progress=False,
        **fields,
    )
    losses = steps(output)
    assert len(losses) >= 2 and np.isfinite(losses).all()
    assert (output / "last.keras").exists()


SMALL = ["--backbone", "resnet18", "--stem-filters", "8", "--crop-size", "49", "--batch-size", "1"]
SMALL += ["--weights", "none", "--epochs", "1", "--validation-epochs", "0", "--partial", "--quiet"]


def test_fine_and_coarse_labels_from_the_command_line(tmp_path):
    datasets.cityscapes(tmp_path / "cityscapes")
    command = ["train", "cityscapes_coarse_paper", "--data", str(tmp_path / "cityscapes")]
    assert main([*command, "--output", str(tmp_path / "run"), *SMALL]) == 0
    stored = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert stored["train_split"] == "train+train_extra"
    assert len(steps(tmp_path / "run")) == stored["examples"] == 3 + 2


def test_coco_then_voc_from_the_command_line(tmp_path):
    datasets.coco(tmp_path / "coco")
    datasets.voc2012(tmp_path / "voc")
    command = ["train", "coco_voc2012_paper", "--data", str(tmp_path / "coco")]
    assert main([*command, "--output", str(tmp_path / "first"), *SMALL]) == 0
    command = ["train", "voc2012_paper", "--data", str(tmp_path / "voc"), *SMALL]
    command += ["--weights", str(tmp_path / "first" / "last.keras")]
    assert main([*command, "--output", str(tmp_path / "second")]) == 0
    assert len(steps(tmp_path / "second")) == 5


def test_voc_and_coco_at_once_from_the_command_line(tmp_path):
    datasets.coco(tmp_path / "coco")
    datasets.voc2012(tmp_path / "voc")
    command = ["train", "voc2012", "--data", str(tmp_path / "voc"), *SMALL]
    command += ["--extra", f"coco={tmp_path / 'coco'}"]
    assert main([*command, "--output", str(tmp_path / "once")]) == 0
    assert len(steps(tmp_path / "once")) == 5 + 2
    command += ["--train-split", "train+3*coco:train"]
    assert main([*command, "--output", str(tmp_path / "thrice")]) == 0
    assert len(steps(tmp_path / "thrice")) == 5 + 3 * 2


def test_several_folders_from_the_command_line(tmp_path, capsys):
    for name in ("one", "two"):
        for index in range(2):
            folder = tmp_path / name / "train"
            datasets.write_example(folder, f"{name}{index}", value=index, size=(64, 48))
        datasets.write_lines(tmp_path / name / "classes.txt", ["road", "roof"])
    folders = [str(tmp_path / name) for name in ("one", "two")]
    command = ["train", "folder", "--data", *folders, "--output", str(tmp_path / "run"), *SMALL]
    assert main(command) == 0
    assert len(steps(tmp_path / "run")) == 4
    datasets.write_lines(tmp_path / "two" / "classes.txt", ["road", "tree"])
    assert main([*command[:-1], "--output", str(tmp_path / "other")]) == 1
    assert "class 1 is 'tree', not 'roof'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--extra", "COCO"], "--extra COCO must be NAME=FOLDER, e.g. coco=COCO"),
        (["--train-split", "train+coco:train"], "the data has no split 'coco:train'"),
    ],
)
def test_wrong_joins_are_refused(tmp_path, capsys, words, message):
    datasets.voc2012(tmp_path / "voc")
    command = ["train", "voc2012", "--data", str(tmp_path / "voc"), *SMALL, *words]
    assert main([*command, "--output", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
