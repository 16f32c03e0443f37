"""The README's commands and code, run as a reader would paste them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.slow  # trains
def test_the_first_code_block_runs_in_an_empty_script(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    (tmp_path / "script.py").write_text(code, "utf-8")
    run = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "mean_iou" in run.stdout
    assert (tmp_path / "saved_models" / "pspnet" / "saved_model.pb").is_file()
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 2


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_the_test_command_is_that_of_ci():
    command = 'python -m pip install -e ".[test]" && python -m pytest -n 2'
    assert f"\n    {command}\n" in README
    assert command in (ROOT / ".ci" / "run").read_text("utf-8")
