"""Every file that a training, an evaluation or a prediction leaves, damaged a few times."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.damage import CONTINUED, NAMED, damages, outcome

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "damaged_files.py"


@pytest.mark.slow  # trainings, and more than a hundred restarts
def test_restarts_with_damaged_files_continue_or_name_the_file():
    command = [sys.executable, str(SCRIPT), "--count", "2", "--whole", "0"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-2000:]
    assert " restarts, 0 wrong." in finished.stdout


def test_damages_are_one_bit_or_a_cut():
    flipped, cut = damages(b"abcdef", 2, seed=0)
    assert len(flipped) == 6 and sum(a != b for a, b in zip(flipped, b"abcdef", strict=True)) == 1
    assert b"abcdef".startswith(cut) and len(cut) < 6
    assert list(damages(b"", 2, seed=0)) == []


@pytest.mark.parametrize(
    ("restart", "expected"),
    [
        (lambda path: {"a": 1}, CONTINUED),
        (lambda path: {"a": 2}, "another result"),
        (lambda path: {"a": 1, "log.csv": print(path, file=sys.stderr)}, NAMED),
        (lambda path: {"a": 2, "log.csv": print(path, file=sys.stderr)}, "another result"),
        (lambda path: int("x"), "ValueError: invalid literal for int() with base 10: 'x'"),
        (lambda path: {}["a"], "traceback: KeyError: 'a'"),
        (lambda path: path.read_bytes(), NAMED),
    ],
)
def test_outcomes(restart, expected, tmp_path):
    path = tmp_path / "log.csv"
    assert outcome(path, lambda: restart(path), [{"a": 1}]) == expected
