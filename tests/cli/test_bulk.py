import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp.cli import bulk, main

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed; extra 'beam'",
)

# A finder that refuses Apache Beam simulates an environment without it.
WITHOUT_BEAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "apache_beam":
            raise ModuleNotFoundError("No module named 'apache_beam'", name=name)

sys.meta_path.insert(0, Absent())
import keras_psp, keras_psp.evaluation
from keras_psp.cli import main

assert main(["presets", "--dataset", "loveda"]) == 0
sys.exit(main(["bulk", "--model", "best.keras", "--images", "*.jpg", "--output", "out"]))
"""


def test_without_beam_other_commands_work_and_the_error_names_the_extra(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_BEAM], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 1 and "loveda" in run.stdout
    assert run.stderr.strip().splitlines()[-1] == (
        "keras-psp: bulk prediction needs Apache Beam (No module named 'apache_beam'); "
        'pip install "keras-psp[beam]".'
    )


def test_arguments_after_two_dashes_are_for_beam():
    command = ["bulk", "--model=best.keras", "--", "--runner=FlinkRunner", "--labels=a=b"]
    assert bulk.split_beam_options(command) == (command[:2], command[3:])
    assert bulk.split_beam_options(["convert", "--", "-x"]) == (["convert", "--", "-x"], [])


@needs_beam
def test_evaluation_on_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for index in range(3):
            # As in ADE20K: classes are 1 to 3, and 0 is ignored.
            values = rng.integers(0, 256, (48, 48, 3)) if kind == "images" else index
            pixels = np.full((48, 48, 3), values, np.uint8)
            Image.fromarray(pixels if kind == "images" else pixels[..., 0]).save(
                tmp_path / kind / f"{index}.png"
            )
    model = tiny_pspnet(
        3,
        backbone=tiny_backbone(),
        bin_sizes=(1, 2),
        class_names=("sky", "sea", "boat"),
    )
    model.save(tmp_path / "small.keras")
    command = ["bulk", "--model", str(tmp_path / "small.keras")]
    command += ["--images", f"{tmp_path}/images/*.png"]
    command += ["--labels", "images/=labels/", "--reduce-zero-label", "--quiet"]
    command += ["--output", str(tmp_path / "out"), "--", "--direct_running_mode=multi_threading"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "mean IoU" in out and "boat" in out and f"3 images: {tmp_path / 'out'}" in out
    confusion = np.load(tmp_path / "out/confusion.npy")
    assert confusion.sum(axis=1).tolist() == [48 * 48, 48 * 48, 0]

    (tmp_path / "images/1.png").write_bytes(b"")
    again = str(tmp_path / "again")
    assert main([again if word == str(tmp_path / "out") else word for word in command]) == 3
    err = capsys.readouterr().err
    assert "1 more images have no result; the reasons are in" in err
    assert "failed.jsonl" in err

    shutil.rmtree(tmp_path / "again/classes")
    (tmp_path / "again/classes").write_text("not a folder")
    assert main([again if word == str(tmp_path / "out") else word for word in command]) == 1
    assert "keras-psp: Beam stopped: " in capsys.readouterr().err

    for index in (0, 2):
        (tmp_path / f"images/{index}.png").write_bytes(b"")
    none = str(tmp_path / "none")
    assert main([none if word == str(tmp_path / "out") else word for word in command]) == 1
    assert "3 more images have no result" in capsys.readouterr().err


@needs_beam
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--list", "a.txt"], "--list requires --root"),
        (["--list", "a.txt", "--labels", "a=b"], "--labels requires --images"),
        (["--images", "*.jpg", "--labeled"], "--labeled requires --tfrecords"),
        (["--tfrecords", "a", "--root", "b"], "--root can't be used with --tfrecords"),
        (["--images", "*.jpg", "--labels", "gt"], "--labels gt: expected OLD=NEW"),
        (
            ["--images", "*.jpg", "--multi-scale", "--scales", "1"],
            "--multi-scale sets the six scales and flip; leave out --scales.",
        ),
        (["--images", "none/*.jpg"], "best.keras: can't be read (No such file or directory)"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bulk", "--model", "best.keras", *arguments, "--output", "out"]) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


@needs_beam
@pytest.mark.parametrize(
    ("arguments", "scales", "flip"),
    [
        ([], (1.0,), False),
        (["--scales", "0.5", "1", "--flip"], (0.5, 1.0), True),
        (["--multi-scale"], (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), True),
    ],
)
def test_scales(arguments, scales, flip, monkeypatch):
    from keras_psp import beam

    given = {}
    monkeypatch.setattr(beam, "predict_many", lambda *_, **options: given.update(options))
    command = ["bulk", "--model", "pspnet_r18-d8_128x128_scenes", "--images", "*.jpg"]
    assert main([*command, "--output", "out", *arguments]) == 0
    assert (given["scales"], given["flip"]) == (scales, flip)


@needs_beam
def test_the_model_may_be_on_another_file_system(monkeypatch):
    from keras_psp import beam

    given = []
    monkeypatch.setattr(beam, "predict_many", lambda *arguments, **_: given.extend(arguments))
    command = ["bulk", "--model", "gs://bucket/best.keras", "--images", "gs://bucket/**.jpg"]
    assert main([*command, "--output", "gs://bucket/classes"]) == 0
    assert given[1:] == ["gs://bucket/best.keras", "gs://bucket/classes"]
