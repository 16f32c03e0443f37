import json
import os
import subprocess
import sys

import pytest

from keras_psp.cli import SUBCOMMANDS, main

# Runs commands as the installed script does, and prints the exit statuses, the output, and
# whether Keras was imported.
SCRIPT = """
import contextlib, io, json, sys
sys.argv[0] = "keras-psp"
from keras_psp.cli import main
results = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as error:
            status = error.code
    imported = sorted({"jax", "keras", "tensorflow", "torch"} & set(sys.modules))
    results.append((status, out.getvalue(), err.getvalue(), imported))
memory = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([results, int(memory.split()[1])]))
"""


def run_apart(commands, folder):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory there")
def test_answers_and_mistakes_need_no_keras(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    bundled = ["--model", "pspnet_r18-d8_128x128_scenes"]
    answers = [["--help"], ["--version"], ["presets"], *([name, "--help"] for name in SUBCOMMANDS)]
    mistakes = [
        (["predict", "none.jpg"], 1, "none.jpg: there is no such file"),
        (["predict", "*.jpg"], 1, "*.jpg: no file matches this pattern"),
        (["predict", "~nobody_here/a.jpg"], 1, "there is no user 'nobody_here'; give a path"),
        (["predict", "photo.png", "--model", "none"], 1, "neither a file nor a folder"),
        (["predict", "photo.png", "--model", "empty"], 1, "neither best.keras nor last.keras"),
        (["predict", "photo.png", "--scales", "-1"], 1, "--scales"),
        (["predict", "photo.png", "--output", "photo.png"], 1, "photo.png is a file"),
        (["predict", "photo.png", "--format", "gif"], 2, "invalid choice: 'gif'"),
        (["explain", "none.jpg"], 1, "none.jpg: there is no such file"),
        (["explain", "empty"], 1, "empty is a folder or a pattern; give a single image"),
        (["explain", "photo.png", "--model", "none"], 1, "neither a file nor a folder"),
        (["explain", "photo.png", "--base-size", "-1"], 1, "base_size is -1"),
        (["evaluate", "folder", "--data", "none", *bundled], 1, "none: no such folder"),
        (["evaluate", "folder", "--data", "empty", *bundled], 1, "has neither images/ nor"),
        (["evaluate", "scenes", *bundled], 1, "'scenes' is unknown"),
        (["train", "foldr", "--output", "r"], 1, "recipe 'foldr' is unknown"),
        (["train", "scenes", "--output", "r", "--epochs", "-1"], 1, "epochs is -1"),
        (["train", "scenes", "--output", "r", "--class-weights", "-1"], 1, "class_weights[0]"),
        (["train", "scenes", "--output", "r", "--weights", "a.pth"], 1, "--weights a.pth"),
        (["train", "scenes", "--output", "r", "--val-split", "dev"], 1, "--val-split dev"),
        (["train", "scenes", "--output", "photo.png/r"], 1, "photo.png is a file"),
        (["export", "none", "--format", "onnx"], 1, "`keras-psp presets` shows all"),
        (["export", "empty", "--format", "onnx:int4"], 1, "the precisions of onnx are"),
        (["export", bundled[1], "--format", "onnx", "--batch-size", "0"], 1, "--batch-size is 0"),
        (["convert", "none.pth"], 1, "none.pth doesn't exist"),
        (["convert", "a.pth", "--output", "a.h5"], 1, "the name must end in .keras"),
        (["convert", "a.keras"], 1, "a.keras is a .keras file already"),
        (["convert", "s3://a/b.pth"], 1, "keras-psp: FILE is 's3://a/b.pth', an address"),
        (["labels", "s3://a", "--output", "o"], 1, "keras-psp: PATH is 's3://a', an address"),
        (["calibrate", "folder", "--save-as", "s3://a", *bundled], 1, "--save-as is 's3://a'"),
        (["fetch", "pspnet_r50"], 1, "the nearest are pspnet_"),
        (["submit", "camvid", "--output", "o", *bundled], 1, "has no server to submit to"),
        (["check", "none"], 1, "none: there is neither a folder nor a data set of this name"),
        (["labels", "none", "--output", "o"], 1, "none: no such file or folder"),
        (["presets", "--dataset", "none"], 1, "--dataset none has no preset"),
        (["trian"], 2, "invalid choice: 'trian'"),
        ([], 2, "usage: keras-psp"),
    ]
    commands = [*answers, *(arguments for arguments, _, _ in mistakes)]
    results, memory = run_apart(commands, tmp_path)
    for arguments, (status, out, _, _) in zip(answers, results, strict=False):
        assert status in (0, None) and out, arguments
    for (arguments, expected, message), (status, _, err, _) in zip(
        mistakes, results[len(answers) :], strict=True
    ):
        assert status == expected and message in err, (arguments, err)
        assert "Traceback" not in err
    assert [imported for _, _, _, imported in results] == [[]] * len(commands)
    assert memory < 100_000  # KB; with TensorFlow it is 900,000


def test_help_lists_every_subcommand(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n    {name} " in printed for name in SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_option_is_explained_with_the_type_of_its_value(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: keras-psp {name} ") and "\nmessages:\n" in printed
    assert name == "info" or f"\nexamples:\n  keras-psp {name} " in printed


def test_an_example_of_each_help_is_a_valid_command_line():
    # Only parsed, since their files don't exist.
    import shlex

    from keras_psp.cli import command_parser
    from keras_psp.cli.bulk import split_beam_options

    parser = command_parser()
    (commands,) = (action for action in parser._actions if action.dest == "command")
    text = "\n".join([parser.epilog, *(c.epilog or "" for c in commands.choices.values())])
    lines = [line.strip() for line in text.replace("\\\n", "").splitlines()]
    examples = [line for line in lines if line.startswith("keras-psp ")]
    assert len(examples) > 15
    for example in examples:
        words, _ = split_beam_options(shlex.split(example)[1:])
        parser.parse_args(words)


def test_info_names_versions_devices_extras_and_the_cache(capsys, monkeypatch, tmp_path):
    import keras

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras_psp").mkdir()
    (tmp_path / "keras_psp" / "a.pth").write_bytes(bytes(3_000_000))
    assert main(["info"]) == 0
    rows = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["keras"].strip() == keras.__version__
    assert rows["backend"].strip() == keras.backend.backend()
    assert "cpu:0" in rows["devices"] or "gpu:0" in rows["devices"]
    assert rows["cache"].strip().startswith(f"{tmp_path}/keras_psp, 3 MB used, ")
    assert {"Python", "system", "tensorflow", "extras"} < set(rows)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_script_completes_the_command(shell, capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("evaluate", "multi-scale", "ade20k", "cityscapes"))
