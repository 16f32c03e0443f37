"""The script that compares a training step with the authors' on the CPU."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.authors import authors_checkout

FOLDER = Path(__file__).parents[2] / "benchmarks"
FLOAT32, HALF, OURS, OUR_HALF = (
    f"{name}, batch 2"
    for name in (
        "authors NCHW, float32",
        "authors, bfloat16",
        "tensorflow XLA, float32",
        "tensorflow XLA, bfloat16",
    )
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's account of memory")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def options(**changes):
    defaults = {"batches": None, "only": ["XLA"], "remat": [""], "semseg": Path("semseg")}
    defaults |= {"depth": 50, "size": 473, "rounds": 1, "sequential": False}
    return argparse.Namespace(**{**defaults, **changes})


def row(form="tensorflow", precision="float32", batch=2, **figures):
    from training_step import Job, Row

    made = Row(Job("network", form, precision, batch))
    made.figures = figures
    return made


def measured(monkeypatch, *, free, **changes):
    """Rows without processes, by name, and what they did while each was measured."""
    import training_step

    monkeypatch.setattr(training_step, "available", lambda: free)
    rows, log, parts = list(training_step.wanted(options(**changes), 2)), [], []
    for each in rows:
        each.start = lambda options, name=each.name: log.append(("start", name))
        each.step = lambda name=each.name: log.append(("step", name))
        each.stop = lambda name=each.name: log.append(("stop", name))
    for _ in training_step.measure(rows, options(**changes)):
        parts.append([*log])
        log.clear()
    return {each.name: each for each in rows}, parts


def test_rows_take_turns_with_the_references_of_their_precision(monkeypatch):
    rows, parts = measured(monkeypatch, free=100)
    steps = [[name for action, name in part if action == "step"] for part in parts]
    # One round to warm up, and one that counts.
    together = [[FLOAT32], [FLOAT32, HALF], [FLOAT32, OURS], [FLOAT32, HALF, OUR_HALF]]
    assert steps == [2 * names for names in together]
    stopped = [name for part in parts for action, name in part if action == "stop"]
    assert stopped == [OURS, OUR_HALF]
    assert list(rows[OURS].against) == ["float32"]
    assert list(rows[OUR_HALF].against) == ["float32", "bfloat16"]


@pytest.mark.parametrize(("free", "sequential"), [(4, False), (100, True)])
def test_a_row_runs_alone_on_demand_and_where_memory_is_short(monkeypatch, free, sequential):
    rows, parts = measured(monkeypatch, free=free, sequential=sequential)
    assert [{name for action, name in part if action == "step"} for part in parts] == [
        {name} for name in (FLOAT32, HALF, OURS, OUR_HALF)
    ]
    # The references' processes end first, and their times are those that they had alone.
    assert parts[1].index(("stop", FLOAT32)) < parts[1].index(("start", HALF))
    assert rows[OUR_HALF].against["float32"] == rows[FLOAT32].times


def test_only_keeps_the_references_and_remat_is_ours():
    from training_step import wanted

    some = list(wanted(options(only=["jax"], remat=["none", "blocks"]), 2))
    assert [each.name for each in some[2:]] == [
        "jax, float32, remat=none, batch 2",
        "jax, float32, remat=blocks, batch 2",
    ]
    assert {each.job.remat for each in some[:2]} == {""}
    without = list(wanted(options(semseg=None, only=None), 2))
    assert not any(each.name.startswith("authors") for each in without)


def test_ratios_are_medians_of_rounds_and_the_peak_is_relative_to_the_reference():
    memory = {"cores": 2.0, "before": 1.0, "later": 2.5}
    reference, ours = row("authors NCHW", peak=5.0, **memory), row(peak=3.0, **memory)
    ours.times, ours.against = [10.0, 30.0, 20.0], {"float32": [20.0, 20.0, 50.0]}
    cells = ours.cells(reference)
    # 10/20, 30/20, 20/50
    assert cells[1:4] == ["20 (10 to 30)", "0.50", ""]
    assert cells[4:] == ["2.00", "1.00", "3.00", "2.50", "0.60"]
    failed = row(failed="ValueError: no").cells(reference)
    assert failed[1] == "ValueError: no" and len(failed) == len(cells)
    assert ours.cells(row(failed="out of memory"))[-1] == ""


def test_a_batch_that_would_not_fit_is_not_run(monkeypatch):
    import training_step

    monkeypatch.setattr(training_step, "available", lambda: 16.0)
    done = [row(batch=2, before=1.0, peak=5.0), row(precision="bfloat16", failed="out of memory")]
    # 1 GB and 2 GB per image
    assert training_step.too_large(row(batch=4).job, done) == {}
    reason = training_step.too_large(row(batch=8).job, done)
    assert reason == {"failed": "not run, needs about 17 GB"}
    after = training_step.too_large(row(precision="bfloat16", batch=4).job, done)
    assert after == {"failed": "out of memory"}
    assert training_step.too_large(row("jax", batch=64).job, done) == {}
    alone = [row("authors", batch=1, failed="ValueError: more than 1 value per channel")]
    assert training_step.too_large(row("authors", batch=2).job, alone) == {}


def table(folder, *arguments):
    """The script's rows of tiny networks: cells by name."""
    command = [sys.executable, FOLDER / "training_step.py", "--depth", "18", "--size", "65"]
    command += ["--rounds", "1", "--semseg", authors_checkout(folder / "semseg"), *arguments]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=600)
    assert finished.returncode == 0, finished.stderr
    lines = [line.strip("|")[1:].split(" | ") for line in finished.stdout.splitlines()[4:]]
    return {name.removesuffix(", batch 2"): cells for name, *cells in lines}


@pytest.mark.slow  # five processes, each of which imports a framework
def test_smoke_measures_growth_and_names_what_fails(tmp_path):
    pytest.importorskip("torch")
    figure = tmp_path / "growth.png"
    only = ("--only", "accumulated", "tensorflow, float32, remat=no", "--remat", "", "no")
    rows = table(tmp_path, "--batches", "2", "--figure", figure, *only)
    assert list(rows) == [
        "authors NCHW, float32",
        "authors, bfloat16",
        "tensorflow, float32, remat=no",
        "tensorflow accumulated, float32",
        "tensorflow accumulated, float32, remat=no",
    ]
    for name in ("authors NCHW, float32", "authors, bfloat16", "tensorflow accumulated, float32"):
        before, peak, later = (float(cell) for cell in rows[name][4:7])
        assert 0.1 < before < peak
        assert before < later
    assert "remat" in rows["tensorflow, float32, remat=no"][0]
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # two processes, each of which imports a framework
def test_smoke_takes_turns(tmp_path):
    pytest.importorskip("torch")
    rows = table(tmp_path, "--only", "channels")
    assert list(rows) == ["authors NCHW, float32", "authors, bfloat16"]
    assert rows["authors NCHW, float32"][1:3] == ["1.00", ""]
    assert float(rows["authors, bfloat16"][1]) > 0 and rows["authors, bfloat16"][2] == "1.00"
