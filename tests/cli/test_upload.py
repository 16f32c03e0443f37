import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_backbone

from keras_psp import PSPNet, weights
from keras_psp.cli import main
from keras_psp.weights import opening, preset_folder
from keras_psp.weights.hubs import downloading, huggingface, uploading


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A .keras file."""
    path = tmp_path_factory.mktemp("network") / "best.keras"
    backbone = tiny_backbone(num_stages=2, name="backbone")
    PSPNet(3, backbone=backbone, bin_sizes=(1, 2), aux_weight=0, fusion_filters=8).save(path)
    return path


@pytest.fixture
def run(network, tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    shutil.copyfile(network, folder / "best.keras")
    recipe = {"name": "camvid", "dataset": "camvid", "val_split": "val", "image_size": [61, 57]}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture
def uploads(monkeypatch, tmp_path):
    """What would be sent to Hugging Face: (address, files, options)."""
    sent = []

    def upload(address, folder, **options):
        sent.append((str(address), {p.name: p.read_bytes() for p in folder.iterdir()}, options))
        return "https://hub/user/name"

    monkeypatch.setattr(huggingface, "upload", upload)
    monkeypatch.setattr(huggingface, "check_upload", lambda *_: None)  # that it is installed
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    return sent


def test_a_training_run_is_uploaded_with_its_facts(run, uploads, capsys):
    assert main(["upload", str(run), "hf://user/name", "--license", "apache-2.0", "--private"]) == 0
    assert capsys.readouterr().out == "https://hub/user/name\n"
    ((address, files, options),) = uploads
    assert address == "hf://user/name" and options["private"] and not options["replace_card"]
    metadata = json.loads(files["metadata.json"])
    assert (metadata["license"], metadata["facts"]["dataset"]) == ("apache-2.0", "camvid")
    assert "hf://user/name" in files["README.md"].decode()


def test_a_file_is_saved_as_a_preset_that_every_command_takes(network, tmp_path, uploads, capsys):
    preset = tmp_path / "preset"
    arguments = ["upload", str(network), str(preset), "--dataset", "mine"]
    assert main([*arguments, "--weights-format", "safetensors"]) == 0
    assert capsys.readouterr().out == f"{preset}\n" and not uploads
    assert preset_folder.read_metadata(preset)["facts"] == {"dataset": "mine"}
    Image.fromarray(np.zeros((61, 57, 3), np.uint8)).save(tmp_path / "a.png")
    predict = ["predict", str(tmp_path / "a.png"), "--model", str(preset), "--quiet"]
    assert main([*predict, "--output", str(tmp_path / "out")]) == 0
    # And a preset is uploaded as it is.
    assert main(["upload", str(preset), "hf://user/name"]) == 0
    assert uploads[0][1]["model.safetensors"] == (preset / "model.safetensors").read_bytes()


def test_without_a_license_the_command_says_so(network, uploads, capsys):
    assert main(["upload", str(network), "hf://user/name"]) == 0
    assert "no --license; the model card will say that it isn't stated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["hf://user/name"], 'pip install "keras-psp[hf]"'),
        (["kaggle://user/model/keras/small"], 'pip install "keras-psp[kaggle]"'),
        (["kaggle://user/model/keras/small", "--license", "my own"], "isn't one that Kaggle has"),
        (["hf://user/name", "--license", " "], "license is ' '"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_before_the_network_is_opened(
    network, monkeypatch, capsys, options, message
):
    for library in ("huggingface_hub", "kagglehub"):
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(opening, "open_model", lambda _: pytest.fail("opened"))
    assert main(["upload", str(network), *options]) == 1
    assert message in capsys.readouterr().err


def test_an_address_is_a_model_of_every_command(network, tmp_path, monkeypatch, capsys):
    preset = tmp_path / "preset"
    weights.convert(network, verbose=False).save_to_preset(preset, facts={"image_size": (61, 57)})
    asked = []
    fetched = monkeypatch.setattr
    fetched(downloading.huggingface, "download", lambda address: asked.append(address) or preset)
    Image.fromarray(np.zeros((61, 57, 3), np.uint8)).save(tmp_path / "a.png")
    predict = ["predict", str(tmp_path / "a.png"), "--model", "hf://user/name@v1", "--quiet"]
    assert main([*predict, "--output", str(tmp_path / "out")]) == 0
    assert {str(address) for address in asked} == {"hf://user/name@v1"}
    assert "base_size=61, as in training" in capsys.readouterr().err
    assert main(["fetch", "hf://user/name"]) == 0
    assert capsys.readouterr().err.endswith("hf://user/name is ready\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.keras", "hf://user/name"], "there is no such file or folder"),
        (["NETWORK", "hf://name"], "isn't an address of a preset; write hf://USER/NAME"),
        (["NETWORK", "hf://user/name@v1"], "an upload makes a new revision; leave out its name"),
        (["NETWORK", "gs://bucket"], "an address; give a local path"),
        (["NETWORK", "folder", "--private"], "--private is for hubs, and folder is a folder"),
        (["PRESET", "folder"], "is a preset already; copy the folder"),
        (["PRESET", "hf://user/name", "--license", "mit"], "has it in its metadata.json"),
        (["PRESET", "hf://user/name", "--weights-format", "h5"], "--weights-format: "),
    ],
)
def test_wrong_command_lines_are_refused(network, tmp_path, uploads, capsys, arguments, message):
    preset = tmp_path / "preset"
    weights.convert(network, verbose=False).save_to_preset(preset)
    given = {"NETWORK": str(network), "PRESET": str(preset)}
    assert main(["upload", *(given.get(word, word) for word in arguments)]) == 1
    assert message in capsys.readouterr().err and not uploads
    assert uploading.huggingface is huggingface
