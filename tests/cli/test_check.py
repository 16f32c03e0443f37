import json

import numpy as np
import pytest
from PIL import Image
from support import datasets

from keras_psp.cli import main


@pytest.fixture
def folder(tmp_path):
    for index in range(6):
        datasets.write_example(tmp_path / "data", f"scene{index}", value=index % 3)
    (tmp_path / "data" / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path / "data"


def test_a_good_folder_is_ready(folder, capsys):
    assert main(["check", str(folder), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "0 sky" in printed and "ready to train on" in printed


def test_the_sheet_and_the_report_are_written(folder, tmp_path, capsys):
    output = tmp_path / "checked"
    assert main(["check", "folder", "--data", str(folder), "--output", str(output)]) == 0
    sheet = np.asarray(Image.open(output / "contact_sheet.png"))
    assert sheet.std() > 10
    splits = json.loads((output / "report.json").read_text())["splits"]
    assert {split: len(images) for split, images in splits.items()} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }
    captured = capsys.readouterr()
    assert str(output / "contact_sheet.png") in captured.out
    assert "Checking" in captured.err


def test_faults_give_status_1_and_are_all_listed(folder, capsys):
    for index in range(2):
        (folder / "images" / f"scene{index}.png").write_bytes(b"")
    assert main(["check", str(folder), "--split", "all", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("fault: ") == 2
    assert captured.err.endswith("isn't ready to train on; see above.\n")


def test_masks_of_0_and_255_give_status_1(tmp_path, capsys):
    for index in range(4):
        datasets.write_example(tmp_path, f"scene{index}", value=(0, 255)[index % 2])
    (tmp_path / "classes.txt").write_text("background\nobject\n")
    assert main(["check", str(tmp_path), "--split", "all", "--quiet"]) == 1
    assert "problem: split 'all'" in capsys.readouterr().out


def test_a_file_as_output_is_refused(folder, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert main(["check", str(folder), "--output", str(tmp_path / "file")]) == 1
    assert "file is a file; the output must be a folder." in capsys.readouterr().err


def test_a_folder_of_other_files_is_not_written_to(folder, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "contact_sheet.png").write_text("mine")
    assert main(["check", str(folder), "--output", str(tmp_path / "mine"), "--quiet"]) == 1
    assert "mine is not empty (contact_sheet.png) and contains no report of a check" in (
        capsys.readouterr().err
    )
    assert (tmp_path / "mine" / "contact_sheet.png").read_text() == "mine"
    for _ in range(2):  # the second replaces the first
        assert main(["check", str(folder), "--output", str(tmp_path / "new"), "--quiet"]) == 0
