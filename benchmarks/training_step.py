"""Compares a training step on the CPU with the authors' PyTorch: time and peak memory. Linux only.

    git clone https://github.com/hszhao/semseg
    python benchmarks/training_step.py --semseg semseg
    python benchmarks/training_step.py --semseg semseg --only tensorflow --remat none blocks
    python benchmarks/training_step.py --semseg semseg --batches 1 2 4 8 16 --figure growth.png

PSPNet-50 with the auxiliary head, 150 classes, random images of 473x473. On TensorFlow a step is a
call of the function that `fit` calls, on an iterator over a tf.data.Dataset; `fit` compiles it with
XLA on a GPU only ("tensorflow"), with jit_compile=True also here ("tensorflow XLA"). The authors'
network is in channels_last except in "authors NCHW", and runs under autocast in bfloat16. Each row
has a process of its own. The processes take turns step by step, after two steps that don't count;
with `--sequential`, or where all of them would not fit in memory, one process ends before the next
starts. All cores are used.

`--batches` measures the growth with the batch, one process at a time; "accumulated" are batches
in parts of two (`compile(gradient_accumulation_steps=...)`). A batch that would not fit in memory,
by what the one before took, is left out. Needs torch, jax for its row, matplotlib for `--figure`.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import resource
import statistics
import sys
import traceback
import types
from pathlib import Path

from gpu import Job
from gpu_rows import reason
from gpu_steps import STEPS, ours

FORMS = (
    ("authors NCHW", "float32"),
    ("authors", "float32"),
    ("authors", "bfloat16"),
    ("tensorflow", "float32"),
    ("tensorflow XLA", "float32"),
    ("tensorflow", "bfloat16"),
    ("tensorflow XLA", "bfloat16"),
    ("jax", "float32"),
    ("torch", "float32"),
)
GROWTH = (*FORMS[:1], *FORMS[2:4], FORMS[5], ("tensorflow accumulated", "float32"))
IDLE, PER_IMAGE = 1.2, 2.5  # GB: a process between its steps, and one image of 473x473 in a step
COLUMNS = (
    "",
    "ms per step, median (least to most)",
    "of the authors' float32",
    "of their bfloat16",
    "memory before, GB",
    "peak, GB",
    "peak of later steps, GB",
    "of the authors' float32",
)


def tensorflow_steps(job):
    """The function that `fit` calls for each batch, and its kind of iterator."""
    import tensorflow as tf

    parts = max(1, job.batch // 2) if "accumulated" in job.form else 1
    model, *batch = ours(
        job, jit_compile="XLA" in job.form or "auto", gradient_accumulation_steps=parts
    )
    batches = iter(tf.data.Dataset.from_tensors(tuple(batch)).repeat())

    def training():
        model.make_train_function()
        return lambda: model.train_function(batches)

    return {"training": training}


def memory(key, file="/proc/self/status"):
    """An entry of Linux's account of this process or of the machine, in GB."""
    return int(re.search(rf"{key}:\s+(\d+) kB", Path(file).read_text())[1]) * 1024 / 1e9


def work(job):
    """Takes a step at the start and for each line of stdin; prints the loss and the memory."""
    Path("/proc/self/oom_score_adj").write_text("1000")  # rather than somebody else's process
    try:
        if job.form.startswith(("authors", "torch")):
            import torch

            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
        steps = {**STEPS, "tensorflow": tensorflow_steps}[job.form.split()[0]]
        make = steps(job)["training"]
        before = memory("VmRSS")
        step = make()
        float(step()["loss"])
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        print(json.dumps({"before": before}), flush=True)
        for _ in sys.stdin:
            loss = float(step()["loss"])
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            print(json.dumps({"loss": loss, "peak": peak, "later": memory("VmHWM")}), flush=True)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"failed": reason(error)}), flush=True)


@dataclasses.dataclass
class Row:
    """A job and what was measured of it: milliseconds, and the replies of its process."""

    job: Job
    times: list = dataclasses.field(default_factory=list)
    figures: dict = dataclasses.field(default_factory=dict)

    def ask(self, call):
        """Keeps a reply of the process, or that there is none."""
        try:
            if "failed" not in self.figures:
                self.figures |= call()
        except (SystemExit, BrokenPipeError):
            self.figures["failed"] = "the process was killed"


def take_turns(rows, options):
    """Measures rows whose processes run at the same time."""
    from measure import Worker, interleaved, progress

    workers = {}
    for row in rows:
        progress(f"starting {name(row.job)}")
        os.environ["KERAS_BACKEND"] = row.job.framework
        job = {**dataclasses.asdict(row.job), "size": options.size, "smoke": False}
        arguments = json.dumps({**job, "semseg": str(options.semseg)})

        def start(row=row, arguments=arguments):
            workers[row.job] = Worker("--work", arguments)
            return workers[row.job].greeting

        row.ask(start)
    calls = {row.job: lambda row=row: row.ask(workers[row.job]) for row in rows}
    times = interleaved(calls, options.rounds)
    for row in rows:
        row.times = times[row.job]
        if row.job in workers:
            workers[row.job].close()


def too_large(job, done):
    """Whether a row would not fit, by the same with the batch before; then it's `failed`."""
    smaller = [row for row in done if dataclasses.replace(row.job, batch=job.batch) == job]
    if not smaller:
        return {}
    last = smaller[-1].figures
    if "peak" not in last:
        return {"failed": last["failed"]}
    share = 1 if "accumulated" in job.form else job.batch / smaller[-1].job.batch
    needed = last["before"] + (last["peak"] - last["before"]) * share
    fits = needed < memory("MemAvailable", "/proc/meminfo")
    return {} if fits else {"failed": f"not run, would take about {needed:.0f} GB"}


def name(job):
    """A row's name in the table."""
    remat = f", remat={job.remat}" if job.remat else ""
    return f"{job.form}, {job.precision}{remat}, batch {job.batch}"


def line(row, done):
    """A row of the table, with its ratios to rows of the same batch."""
    from measure import spread

    if "failed" in row.figures:
        return f"| {name(row.job)} | {row.figures['failed']} " + "| " * (len(COLUMNS) - 2) + "|"
    theirs = [
        other
        for other in done
        if other.job.form.startswith("authors")
        and other.job.batch == row.job.batch
        and "failed" not in other.figures
    ]
    float32 = [other for other in theirs if other.job.form == "authors NCHW"]
    halves = [other for other in theirs if other.job.precision == "bfloat16"]
    halves = sorted(halves, key=lambda other: statistics.median(other.times))
    halves = halves if row.job.precision == "bfloat16" else []
    cells = [name(row.job), spread(row.times)]
    for others in (float32, halves):
        ratios = [a / b for o in others[:1] for a, b in zip(row.times, o.times, strict=True)]
        cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
    cells += [f"{row.figures[key]:.2f}" for key in ("before", "peak", "later")]
    cells += [f"{row.figures['peak'] / o.figures['peak']:.2f}" for o in float32] or [""]
    return f"| {' | '.join(cells)} |"


def draw(done, path):
    """Draws milliseconds per image and the peak memory over the batch."""
    import matplotlib.pyplot as plt

    figure, (times, peaks) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for form, precision in dict.fromkeys((row.job.form, row.job.precision) for row in done):
        rows = [r for r in done if (r.job.form, r.job.precision) == (form, precision)]
        rows = [r for r in rows if "failed" not in r.figures]
        batches = [r.job.batch for r in rows]
        label, style = f"{form}, {precision}", "o--" if form.startswith("authors") else "o-"
        per_image = [statistics.median(r.times) / r.job.batch for r in rows]
        times.plot(batches, per_image, style, label=label)
        peaks.plot(batches, [r.figures["peak"] for r in rows], style, label=label)
    times.set(ylabel="time of a training step (ms per image)")
    peaks.set(ylabel="peak memory of the process (GB)")
    for axes in (times, peaks):
        axes.set(xlabel="batch (images)", ylim=(0, None))
        axes.set_xticks(sorted({row.job.batch for row in done}))
    times.legend()
    figure.savefig(path, dpi=150)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", type=Path, help="checkout of hszhao/semseg")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=473)
    parser.add_argument("--depth", type=int, default=50, help="of the ResNet")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help='rows besides "authors NCHW"')
    parser.add_argument("--remat", nargs="+", default=[""], help="PSPNet(remat=...) to measure")
    parser.add_argument("--sequential", action="store_true", help="one process at a time")
    parser.add_argument("--batches", nargs="+", type=int, help="measure growth with the batch")
    parser.add_argument("--figure", type=Path, help="draw the growth")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def jobs(options, batch):
    """The rows of a batch."""
    for form, precision in GROWTH if options.batches else FORMS:
        theirs = form.startswith("authors")
        if theirs and not options.semseg:
            continue
        for remat in [""] if theirs else options.remat:
            job = Job("network", form, precision, batch, options.depth, remat)
            wanted = not options.only or any(text in name(job) for text in options.only)
            if wanted or form == "authors NCHW":
                yield job


def main():
    """Prints the table; fails if no row has figures."""
    options = arguments()
    if options.work:
        work(types.SimpleNamespace(**options.work))
        return 0
    # Imports Keras, whose memory the authors' network doesn't need.
    from measure import environment

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    done = []
    for batch in options.batches or [options.batch]:
        rows = [Row(job) for job in jobs(options, batch)]
        if not done:
            frameworks = sorted({row.job.framework for row in rows})
            print(environment([f for f in frameworks if importlib.util.find_spec(f)]))
            print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        needed = IDLE * len(rows) + PER_IMAGE * batch * (options.size / 473) ** 2
        alone = options.sequential or needed > memory("MemAvailable", "/proc/meminfo")
        alone = alone or options.batches is not None
        for group in [[row] for row in rows] if alone else [rows]:
            if alone:
                group[0].figures = too_large(group[0].job, done)
            take_turns(group, options)
            done += group
            for row in group:
                print(line(row, done), flush=True)
    if options.figure:
        draw(done, options.figure)
    return all("failed" in row.figures for row in done)


if __name__ == "__main__":
    raise SystemExit(main())
