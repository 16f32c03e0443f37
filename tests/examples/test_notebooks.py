"""Runs all cells of the notebooks, with their settings for tests."""

import ast
import json
import os
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from support.logs import foreign_lines

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "notebooks"
NAMES = ("explain", "export", "finetune", "pets", "quickstart")

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")


def opened(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


def printed(notebook):
    """Returns everything the cells printed or showed as text."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                texts.append(output.text)
            elif "data" in output:
                texts.append(output.data.get("text/plain", ""))
    return "\n".join(texts)


def number_of_images(notebook):
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


def executed(name, folder, monkeypatch, *, before=""):
    """Runs the notebook in `folder` with this Python, and returns it with its outputs.

    The code `before` runs first, in a cell of its own.
    """
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    kernel = folder / "jupyter" / "kernels" / "this_python"
    kernel.mkdir(parents=True)
    specification = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "this Python",
        "language": "python",
    }
    (kernel / "kernel.json").write_text(json.dumps(specification))
    for variable, value in {
        "JUPYTER_PATH": str(folder / "jupyter"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "KERAS_BACKEND": "tensorflow",
        "KERAS_PSP_SMALL": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    notebook = opened(name)
    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,  # per cell
        kernel_name="this_python",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    assert foreign_lines(printed(notebook)) == []
    return notebook


def test_every_notebook_is_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_has_no_outputs_and_a_valid_format(name):
    notebook = opened(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    # There is prose between the code cells.
    assert len(notebook.cells) - len(code) > 5


@pytest.mark.parametrize("name", NAMES)
def test_the_badge_links_to_the_notebook_in_the_repository(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    repository = project["urls"]["Homepage"].removeprefix("https://github.com/")
    first = opened(name).cells[0].source.splitlines()[0]
    (address,) = re.findall(r"^\[!\[Open in Colab\]\(\S+\)\]\((\S+)\)$", first)
    path = f"blob/main/examples/notebooks/{name}.ipynb"
    assert address == f"https://colab.research.google.com/github/{repository}/{path}"


@pytest.mark.parametrize("name", NAMES)
def test_installs_only_in_colab_and_keeps_its_tensorflow(name):
    cells = [cell.source for cell in opened(name).cells if cell.cell_type == "code"]
    installs = [cell for cell in cells if "pip install" in cell]
    assert installs == cells[:1]
    *_, condition = ast.parse(installs[0].replace("%pip", "pass  # pip")).body
    assert ast.unparse(condition.test) == "'google.colab' in sys.modules"
    assert "--upgrade" not in installs[0] and " -U" not in installs[0]


@pytest.mark.slow
def test_quickstart_trains_evaluates_and_draws(tmp_path, monkeypatch):
    notebook = executed("quickstart", tmp_path, monkeypatch)
    text = printed(notebook)
    (mean,) = re.findall(r"mean IoU ([\d.]+) %", text)
    assert 0 < float(mean) < 100
    assert "scores, at the image size (1, 96, 96, 14)" in text
    assert "opened again: 100.000 % of pixels equal" in text
    assert number_of_images(notebook) == 3
    assert (tmp_path / "pspnet.keras").stat().st_size > 1e6


@pytest.mark.slow
def test_finetune_creates_a_folder_and_trains_on_it(tmp_path, monkeypatch):
    notebook = executed("finetune", tmp_path, monkeypatch)
    text = printed(notebook)
    (mean,) = re.findall(r"mean IoU ([\d.]+) %", text)
    assert 0 < float(mean) < 100
    assert "train: 16 images\nval: 2 images\ntest: 2 images" in text
    assert "val_mean_iou" in text
    assert number_of_images(notebook) == 3
    assert (tmp_path / "finetuned.keras").stat().st_size > 1e6
    assert len(list((tmp_path / "generated_images" / "labels").iterdir())) == 20


MOCKED_PETS = """
import numpy as np
import tensorflow_datasets as tfds

def examples():
    generator = np.random.default_rng(0)
    for number in range(12):
        height, width = generator.integers(90, 140, 2)
        rows, columns = np.mgrid[:height, :width]
        distance = np.hypot(rows - height / 2, columns - width / 2) / min(height, width)
        trimap = np.where(distance < 0.3, 1, np.where(distance < 0.34, 3, 2)).astype(np.uint8)
        image = np.where(distance < 0.32, 200, 60)[..., None] + generator.integers(
            0, 50, (height, width, 3)
        )
        yield {
            "file_name": f"pet_{number}.jpg".encode(),
            "image": image.astype(np.uint8),
            "label": 0,
            "segmentation_mask": trimap[..., None],
            "species": 0,
        }

stored = list(examples())
mocked = tfds.testing.mock_data(
    as_data_source_fn=lambda builder, split, decoders=None: stored,
    data_dir="metadata",
    policy=tfds.testing.MockPolicy.USE_FILES,
)
mocked.__enter__()
"""
PETS_METADATA = {
    "name": "oxford_iiit_pet",
    "version": "4.0.0",
    "fileFormat": "array_record",
    "splits": [
        {
            "name": name,
            "shardLengths": ["12"],
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
        for name in ("train", "test")
    ],
}
"""As TFDS writes it into dataset_info.json."""


@pytest.mark.slow
def test_pets_are_trained_evaluated_and_exported(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets", reason="needs the extra tfds")
    pytest.importorskip("array_record", reason="has no wheels for Windows")
    folder = tmp_path / "metadata" / "oxford_iiit_pet" / "4.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps(PETS_METADATA))
    notebook = executed("pets", tmp_path, monkeypatch, before=MOCKED_PETS)
    text = printed(notebook)
    assert "train: 12 images\ntest: 12 images" in text
    # In the first image, the pet is a disk with a radius of 0.3 sides, and the border surrounds it.
    height, width = map(int, re.findall(r"image \((\d+), (\d+), 3\) uint8", text)[0])
    side = min(height, width)
    areas = [np.pi * (radius * side) ** 2 / (height * width) for radius in (0.3, 0.34)]
    shares = [int(share) for share in re.findall(r"\): (\d+)% of the pixels", text)]
    expected = [100 - 100 * areas[1], 100 * areas[0], 100 * (areas[1] - areas[0])]
    np.testing.assert_allclose(shares, expected, atol=1)
    assert "255 (border, ignored)" in text
    (mean,) = re.findall(r"mean IoU ([\d.]+) %   pixel accuracy", text)
    assert 0 < float(mean) < 100
    exported = dict(re.findall(r"(\w+)\.tflite: .* ([\d.]+)% of pixels equal", text))
    assert float(exported["pets"]) > 99.9 and float(exported["pets_int8"]) > 95
    assert number_of_images(notebook) == 4
    assert (tmp_path / "pets.keras").stat().st_size > 1e6


@pytest.mark.slow
def test_the_hull_is_a_boat_because_of_the_water(tmp_path, monkeypatch):
    notebook = executed("explain", tmp_path, monkeypatch)
    text = printed(notebook)
    assert "of the hull: 0.0%" in text
    assert float(re.findall(r"largest error of their sum: (\S+)", text)[0]) < 1e-4
    assert re.search(r"boat minus car at \d+ \d+: features .*, 1x1 \+", text)
    shares = re.findall(r"^beside (\w+)(.*): +([\d.]+)% boat, +([\d.]+)% car", text, re.MULTILINE)
    found = {(surface, what.strip(" ,")): (float(b), float(c)) for surface, what, b, c in shares}
    assert len(found) == 6
    for surface in ("water", "road"):
        # The larger share is that of the class that the surface, or the pyramid, says.
        seen, exchanged = found[surface, ""], found[surface, "pyramid of the other"]
        assert (seen[0] > seen[1]) == (surface == "water")
        assert (exchanged[0] > exchanged[1]) == (surface == "road")
    assert "images; the levels are replaced by their mean over" in text
    radii = re.findall(r"95 % of the gradient within (\d+) pixels", text)
    assert len(radii) == 2 and all(10 < int(radius) < 200 for radius in radii)
    assert number_of_images(notebook) == 5


@pytest.mark.slow
def test_exports_agree_with_the_model(tmp_path, monkeypatch):
    notebook = executed("export", tmp_path, monkeypatch)
    shares = dict(
        re.findall(r"^(.+): ([\d.]+) % of pixels equal$", printed(notebook), re.MULTILINE)
    )
    assert shares.keys() == {"TFLite", "TFLite, float16", "TF Serving", "serve_bytes"}
    for name, share in shares.items():
        assert float(share) >= (99.0 if "float16" in name else 99.99), name
    assert '{"signature_name": "serve_bytes", "instances": [{"b64": "' in printed(notebook)
    assert number_of_images(notebook) == 1
    assert (tmp_path / "exported" / "served" / "pspnet" / "1" / "saved_model.pb").is_file()
    assert (tmp_path / "exported" / "served" / "models.config").is_file()
