import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from support import datasets
from support.datasets import random_camvid
from support.networks import random_network

from keras_psp import predict
from keras_psp.cli import main
from keras_psp.data import load


@pytest.fixture
def camvid(tmp_path):
    """The options for a small CamVid and a training's folder with a network."""
    source = random_camvid(tmp_path / "camvid")
    folder = tmp_path / "run"
    folder.mkdir()
    random_network(11).save(folder / "best.keras")
    (folder / "recipe.json").write_text(json.dumps({"image_size": [36, 48]}))
    options = ["evaluate", "camvid", "--data", str(source.root), "--partial", "--split", "test"]
    return [*options, "--model", str(folder), "--limit", "1", "--quiet"]


def test_evaluate_prints_tables_and_writes_the_results(camvid, tmp_path, capsys):
    output = tmp_path / "output"
    arguments = [*camvid, "--multi-scale", "--crop", "33", "--output", str(output)]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "bicyclist" in out and "mean IoU" in out and "report.html" in out
    assert "base_size=48, as in training" in err
    summary = json.loads((output / "evaluation.json").read_text())
    assert (summary["images"], summary["flip"], len(summary["scales"])) == (1, True, 6)
    assert summary["base_size"] == 48
    assert summary["error_groups"] is True
    assert main([*arguments, "--scales", "1"]) == 1
    assert "leave out --scales" in capsys.readouterr().err
    assert main([*arguments, "--no-error-groups"]) == 1
    assert "holds an evaluation with --error-groups, not without it" in capsys.readouterr().err


def test_submit_writes_files_and_resumes(tmp_path, capsys):
    datasets.voc2012(tmp_path / "voc")
    random_network(21).save(tmp_path / "network.keras")
    output = tmp_path / "output"
    arguments = ["submit", "voc2012", "--data", str(tmp_path / "voc"), "--partial"]
    arguments += ["--model", str(tmp_path / "network.keras"), "--output", str(output)]
    arguments += ["--archive", str(tmp_path / "results.tgz"), "--competition", "comp5"]
    assert main(arguments) == 0
    assert "2 files written and checked" in capsys.readouterr().out
    assert (tmp_path / "results.tgz").exists()
    files = sorted((output / "results/VOC2012/Segmentation/comp5_test_cls").iterdir())
    assert len(files) == 2
    before = files[1].stat().st_mtime_ns
    files[0].unlink()
    assert main([*arguments, "--quiet"]) == 0  # predicts only what is missing
    assert files[0].exists() and files[1].stat().st_mtime_ns == before


def test_ade20k_test_images_become_a_checked_archive(tmp_path, capsys):
    datasets.ade20k(tmp_path / "data" / "ADEChallengeData2016")
    release = tmp_path / "data" / "ADEChallengeData2016" / "release_test"
    release.rename(tmp_path / "data" / "release_test")  # where the archive is usually unpacked
    random_network(150).save(tmp_path / "network.keras")
    arguments = ["submit", "ade20k", "--data", str(tmp_path / "data"), "--partial", "--quiet"]
    arguments += ["--model", str(tmp_path / "network.keras"), "--output", str(tmp_path / "output")]
    assert main([*arguments, "--archive", str(tmp_path / "test.zip")]) == 0
    assert "2 files written and checked" in capsys.readouterr().out
    source = load("ade20k", root=tmp_path / "data", complete=False)
    expected = predict(
        [source.image("test", index) for index in range(2)], tmp_path / "network.keras"
    )
    with zipfile.ZipFile(tmp_path / "test.zip") as archive:
        assert archive.namelist() == ["ADE_test_00000001.png", "ADE_test_00000002.png"]
        for name, prediction in zip(archive.namelist(), expected, strict=True):
            with archive.open(name) as file, Image.open(file) as image:
                np.testing.assert_array_equal(np.asarray(image), prediction.classes + 1)


def test_competition_is_only_for_voc(capsys):
    arguments = ["submit", "cityscapes", "--data", ".", "--model", "m", "--output", "o"]
    assert main([*arguments, "--competition", "comp5"]) == 1
    assert "--competition is only for voc2012, not cityscapes" in capsys.readouterr().err
