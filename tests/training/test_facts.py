import csv
import json

import pytest

from keras_psp.training import run_facts
from keras_psp.training.log import EPOCH_COLUMNS

RECIPE = {
    "name": "custom",
    "dataset": "folder",
    "val_split": "val",
    "examples": 40,
    "crop_size": 321,
    "image_size": [360, 480],
    "weights": "/home/jane/secret/iter_80000.pth",
}
COMMAND = [
    "/home/jane/bin/keras-psp", "train", "folder", "--data", "/home/jane/secret/photos",
    "--extra", "coco=/home/jane/secret/COCO", "--weights", "~/secret/iter_80000.pth",
    "--output", "runs/mine",
]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """The folder of a run of three epochs."""
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    (tmp_path / "starts.json").write_text(json.dumps([{"command": COMMAND}, {"command": ["x"]}]))
    with open(tmp_path / "log.csv", "w", newline="") as file:
        table = csv.DictWriter(file, EPOCH_COLUMNS, restval="")
        table.writeheader()
        for epoch, score in ((1, 0.25), (2, 0.5), (3, 0.375)):
            table.writerow({"epoch": epoch, "step": 10 * epoch, "val_mean_iou": score})
    (tmp_path / "best.keras").touch()
    (tmp_path / "last.keras").touch()
    return tmp_path


def test_the_facts_are_those_of_the_best_network_without_paths_of_the_machine(run):
    assert run_facts(run) == {
        "dataset": "own images",
        "split": "val",
        "mean_iou": 0.5,
        "training_images": 40,
        "epochs": 2,
        "crop_size": [321, 321],
        "image_size": [360, 480],
        "weights": "iter_80000.pth",
        "recipe": "custom",
        "command": "keras-psp train folder --data photos --extra coco=COCO --weights "
        "iter_80000.pth --output runs/mine",
    }


def test_without_a_best_network_they_are_those_of_the_last(run):
    (run / "best.keras").unlink()
    facts = run_facts(run)
    assert (facts["mean_iou"], facts["epochs"]) == (0.375, 3)


def test_scripts_and_missing_files_leave_facts_out(run):
    (run / "starts.json").write_text(json.dumps([{"command": ["ipykernel_launcher.py", "-f"]}]))
    (run / "log.csv").unlink()
    (run / "recipe.json").write_text(json.dumps({**RECIPE, "weights": "hf://user/name"}))
    facts = run_facts(run)
    assert not {"command", "mean_iou", "split", "epochs"} & facts.keys()
    assert facts["weights"] == "hf://user/name"


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="isn't the folder of a training run: it has no recipe"):
        run_facts(tmp_path)
