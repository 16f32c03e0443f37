"""The script for a GPU, on the CPU."""

import argparse
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.authors import authors_checkout

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPT = str(FOLDER / "gpu.py")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def options(**changes):
    defaults = {"batch": 16, "size": 473, "smoke": False, "semseg": None, "remat": []}
    return argparse.Namespace(**{**defaults, "minutes": 5, "limit": 60, **changes})


@pytest.fixture
def record(tmp_path):
    from gpu import Record

    return Record(tmp_path / "gpu.jsonl")


def test_every_job_has_its_own_name_and_the_first_compares_half_precision():
    from gpu import FORMS, jobs

    every = list(jobs(options(remat=["blocks"])))
    assert len({job.name for job in every}) == len(every)
    assert [job.form for job in every[: len(FORMS)]] == list(FORMS)
    assert {job.precision for job in every[: len(FORMS)]} == {"bfloat16"}
    both = {job.framework for job in every if job.remat == "blocks"}
    assert both == {"jax", "torch"}


def test_smoke_keeps_every_form_and_precision():
    from gpu import jobs, representatives

    every = list(jobs(options()))
    some = list(representatives(every))
    assert len(some) < len(every)
    assert {(job.kind, job.form) for job in some} == {(job.kind, job.form) for job in every}
    assert {job.precision for job in some} == {job.precision for job in every}


def test_a_job_is_done_with_figures_or_out_of_memory_and_repeated_otherwise(record):
    from gpu import TIME_OVER, Job

    job = Job("network", "jax")
    assert record.state(job) == "missing"
    record.write(job, "start")
    record.write(job, "inference", images_per_second=1.0)
    assert record.state(job) == "missing"  # stopped before its end
    record.write(job, "training", failed="out of memory")
    record.write(job, "end")
    assert record.state(job) == "done"
    record.write(job, "start")
    record.write(job, "end", failed=TIME_OVER)
    assert record.state(job) == "missing"
    record.write(job, "start")
    record.write(job, "end", failed="stopped after 150 s")
    assert record.state(job) == "failed"
    record.write(job, "start")
    assert record.state(job) == "missing"


def test_largest_batch_is_sought_near_the_share_of_memory_that_is_left(record):
    from gpu import LARGEST, Job, batches

    job = Job("network", "jax")
    largest = dataclasses.replace(job, batch=LARGEST)
    assert batches(job, record, options()) == [16]
    assert batches(largest, record, options()) == []  # nothing known yet
    record.write(job, "training", images_per_second=1.0, peak_mb=10_000, limit_mb=80_000)
    assert batches(largest, record, options()) == [124, 108, 88]  # of 128
    record.write(job, "training", images_per_second=1.0, peak_mb=10_000, limit_mb=12_000)
    assert batches(largest, record, options()) == []
    record.write(job, "training", failed="out of memory")
    assert batches(largest, record, options()) == [8, 4, 2]
    record.write(job, "training", failed="ValueError: no")
    assert batches(largest, record, options()) == []


def test_a_worker_that_takes_too_long_is_stopped_with_a_row(record, tmp_path):
    from gpu import Job, run

    job = Job("network", "jax")
    start = time.monotonic()
    run(job, record, options(smoke=True, limit=0.5), 0.5)
    assert time.monotonic() - start < 10
    assert record.rows()[job.name]["end"]["failed"] == "stopped after 0 s"
    run(job, record, options(smoke=True), 0.5)  # cut by the end of all jobs, not by its own limit
    assert record.rows()[job.name]["end"]["failed"] == "not finished, the time was over"
    assert (tmp_path / "gpu.log").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to forward")
def test_a_stopped_run_prints_its_table_and_leaves_no_process(tmp_path):
    record = tmp_path / "gpu.jsonl"
    command = [sys.executable, SCRIPT, "--smoke", "--record", str(record)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not record.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        process.terminate()
        printed, _ = process.communicate(timeout=60)  # the child has inherited no pipe
    finally:
        process.kill()
    assert process.returncode == 143
    assert (tmp_path / "gpu.md").read_text() in printed
    assert "Not measured yet: PSPNet-50, jax, bfloat16, 2; " in printed


def test_table_compares_with_the_fastest_form_of_the_authors(record):
    from gpu import Job
    from gpu_table import table

    def measured(form, rate, peak, **others):
        job = Job("network", form, **others)
        rates = {"images_per_second": rate, "least": rate, "most": rate}
        record.write(job, "training", **rates, peak_mb=peak, device="GPU X", versions={"k": "1"})
        record.write(job, "end")

    measured("authors", 50.0, 30_000)
    measured("authors compile", 80.0, 20_000)
    measured("jax", 120.0, 9_000)
    measured("jax", 10.0, 1_000, precision="float32")
    record.write(Job("network", "torch"), "training", failed="out of memory")
    record.write(Job("network", "tensorflow"), "device", failed="tensorflow 2 sees no GPU")
    page = table(record.rows(), "--semseg semseg", ["loss | jax | float32 | 16"])
    lines = page.splitlines()
    (ours,) = (line for line in lines if "| jax | bfloat16 |" in line)
    assert ours.endswith("| 120.0 (120.0 to 120.0) | 9,000 | | | 1.50 | 0.45 |")
    (alone,) = (line for line in lines if "| jax | float32 |" in line)
    assert alone.endswith("| 10.0 (10.0 to 10.0) | 1,000 | | | | |")
    (failed,) = (line for line in lines if "| torch |" in line)
    assert "| out of memory |" in failed
    assert "- tensorflow 2 sees no GPU" in lines and "| tensorflow |" not in page
    assert "k 1; GPU X; " in page
    assert lines[-1] == "Not measured yet: loss, jax, float32, 16."


def test_errors_are_one_line_and_memory_is_named():
    from gpu_rows import reason

    assert reason(RuntimeError("CUDA out of memory. Tried to allocate")) == "out of memory"
    assert reason(ValueError("RESOURCE_EXHAUSTED: 5 GB")) == "out of memory"
    assert reason(ValueError("a |\n b")) == "ValueError: a / b"


@pytest.mark.parametrize("framework", ["jax", "torch", "tensorflow"])
def test_without_a_gpu_a_framework_is_left_out(framework):
    pytest.importorskip(framework)
    from gpu_rows import Device, NoDevice

    assert Device(framework, "bfloat16", smoke=True).peak() is None
    with pytest.raises(NoDevice, match=f"{framework} .* sees no GPU"):
        Device(framework, "bfloat16", smoke=False)
    with pytest.raises(NoDevice, match="no_such_framework is not installed"):
        Device("no_such_framework", "bfloat16", smoke=True)


# Less work for XLA, and none of it twice for JAX.
FASTER = {
    "XLA_FLAGS": "--xla_backend_optimization_level=1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def smoke(*arguments, **variables):
    settings = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    command = [sys.executable, SCRIPT, "--smoke", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=settings, timeout=1500)


@pytest.mark.slow  # some twenty processes, each of which imports a framework
def test_smoke_measures_everything_that_is_installed(tmp_path):
    installed = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]
    record = tmp_path / "gpu.jsonl"
    semseg = authors_checkout(tmp_path / "semseg")
    arguments = ("--semseg", semseg, "--record", record, "--minutes", 25)
    finished = smoke(*arguments, **FASTER, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cache"))
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    problems = [row for row in rows if "failed" in row and "is not installed" not in row["failed"]]
    assert not problems, (tmp_path / "gpu.log").read_text()[-5000:]
    assert finished.returncode == 0, finished.stderr
    forms = {row["job"].split(" | ")[1] for row in rows if "images_per_second" in row}
    expected = {"tensorflow", "tensorflow XLA", *installed}
    if "torch" in installed:
        expected |= {"authors", "authors compile", "authors NCHW", "torch compile"}
    assert forms == expected
    assert "Not measured yet" not in finished.stdout
    assert (tmp_path / "gpu.md").read_text() in finished.stdout
    # Nothing is measured twice.
    again = smoke(*arguments)
    assert again.returncode == 0 and not again.stderr


@pytest.mark.slow  # compiles six training steps
def test_compiler_plans_less_memory_and_arithmetic_than_the_plain_form():
    pytest.importorskip("jax")
    finished = smoke("--compiler", "--size", "121")
    assert finished.returncode == 0, finished.stderr
    lines = [line.strip("| ").split(" | ") for line in finished.stdout.splitlines()[-6:]]
    figures = {(form, batch): rest for form, batch, *rest in lines}
    assert len(figures) == 6
    ours, fusion, plain = (
        [float(cell.split(" ")[0]) for cell in figures[form, "2"]]
        for form in ("keras_psp", "plain fusion", "plain fusion and loss")
    )
    assert ours[2] < fusion[2] <= plain[2]
    assert ours[0] <= fusion[0] < plain[0]
