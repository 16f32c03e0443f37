import csv
import json

import numpy as np
import pytest
from support.datasets import random_camvid, write_example
from support.networks import random_network

import keras_psp


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """An evaluation and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("evaluation")
    source = random_camvid(folder / "camvid")
    evaluation = keras_psp.evaluate(
        source,
        random_network(11),
        split="test",
        crop=33,
        boundary=True,
        output=folder / "output",
        progress=False,
    )
    return evaluation, folder / "output"


def test_files_contain_the_results(evaluated):
    evaluation, output = evaluated
    confusion = evaluation.measures.confusion
    rows = list(csv.DictReader((output / "images.csv").open()))
    assert [row["name"] for row in rows] == evaluation.names == ["test_0", "test_1"]
    summary = json.loads((output / "evaluation.json").read_text())
    assert summary["mean_iou"] == evaluation.mean_iou
    assert summary["boundary_iou"] == evaluation.boundary.result()
    assert summary["crop"] == 33
    errors = json.loads((output / "errors.json").read_text())
    assert errors["wrong"] == confusion.sum() - np.trace(confusion)
    assert errors["wrong"] == sum(errors["pixels"].values())
    matrix = list(csv.reader((output / "confusion.csv").open()))
    assert np.array([row[1:] for row in matrix[1:]], int).tolist() == confusion.tolist()


def test_report_has_title_classes_and_images(evaluated):
    page = (evaluated[1] / "report.html").read_text("utf-8")
    assert "bicyclist" in page and "test_1" in page and "<h1>CamVid test</h1>" in page


def test_report_of_own_data_is_titled_by_the_folder_and_split(tmp_path, monkeypatch):
    for name in "abc":
        write_example(tmp_path / "aerial", name, size=(41, 41))
    monkeypatch.chdir(tmp_path / "aerial")
    for number, root in enumerate((tmp_path / "aerial", ".")):
        output = tmp_path / f"results{number}"
        source = keras_psp.data.ImageFolder(root)
        keras_psp.evaluate(source, random_network(2), output=output, progress=False)
        page = (output / "report.html").read_text("utf-8")
        assert "<title>aerial val</title>" in page and "<h1>aerial val</h1>" in page


def test_summary_and_printed_tables_have_the_means(evaluated, capsys):
    evaluation, _ = evaluated
    assert "mean IoU" in str(evaluation)
    evaluation.print()
    assert "boundary IoU" in capsys.readouterr().out
