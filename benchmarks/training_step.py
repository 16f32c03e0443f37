"""Compares a training step on the CPU with the authors' PyTorch: time and peak memory. Linux only.

    git clone https://github.com/hszhao/semseg
    python benchmarks/training_step.py --semseg semseg
    python benchmarks/training_step.py --semseg semseg --only tensorflow --remat none blocks
    python benchmarks/training_step.py --semseg semseg --batches 1 2 4 8 16 --figure growth.png

PSPNet-50 with the auxiliary head, 150 classes, random images of 473x473. On TensorFlow a step is a
call of the function that `fit` calls, on an iterator over a tf.data.Dataset; `fit` compiles it with
XLA on a GPU only ("tensorflow"), with jit_compile=True also here ("tensorflow XLA"). The authors'
network is in channels_last except in "authors NCHW", and runs under autocast in bfloat16.

Each row has a process of its own. It takes turns, step by step, with the authors' NCHW network in
float32 and, in bfloat16, also with theirs in bfloat16; two steps of each don't count, and the
ratios are medians over rounds. With `--sequential`, or where these processes would not fit in
memory together, a row runs alone. All cores are used; fewer "cores used" than there are, also by
the references, are a sign of other work on the machine, which OpenMP's threads suffer from most.

`--batches` measures the growth with the batch, one process at a time; "accumulated" are batches
in parts of two (`compile(gradient_accumulation_steps=...)`). A batch that would not fit in memory,
by what the one before took, is left out. Needs torch, jax for its row, matplotlib for `--figure`.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import types
from pathlib import Path

from gpu import Job
from training_row import available, work

FORMS = (
    ("authors NCHW", "float32"),
    ("authors", "bfloat16"),
    ("authors", "float32"),
    ("tensorflow", "float32"),
    ("tensorflow XLA", "float32"),
    ("tensorflow", "bfloat16"),
    ("tensorflow XLA", "bfloat16"),
    ("jax", "float32"),
    ("torch", "float32"),
)
REFERENCES = FORMS[:2]
GROWTH = (*REFERENCES, FORMS[3], FORMS[5], ("tensorflow accumulated", "float32"))
COLUMNS = (
    "",
    "ms per step, median (min to max)",
    "of the authors' float32",
    "of their bfloat16",
    "cores used",
    "memory before the first step, GB",
    "peak, GB",
    "peak of later steps, GB",
    "of the authors' float32",
)


class Row:
    """A row of the table.

    Attributes:
        job: what its process measures.
        figures: the process's replies: memory in GB and the loss, or why there are none.
        times: milliseconds of each round.
        against: those of the references in the same rounds, by precision.
    """

    def __init__(self, job):
        self.job, self.figures, self.times, self.against = job, {}, [], {}
        self._worker = None
        remat = f", remat={job.remat}" if job.remat else ""
        self.name = f"{job.form}, {job.precision}{remat}, batch {job.batch}"

    @property
    def failed(self):
        return self.figures.get("failed")

    def start(self, options):
        """Starts the process, unless it runs."""
        if not self._worker:
            job = {**dataclasses.asdict(self.job), "size": options.size, "smoke": False}
            self._ask(lambda: self._new_worker({**job, "semseg": str(options.semseg)}))

    def step(self):
        """Lets the process take a step."""
        self._ask(lambda: self._worker())

    def stop(self):
        """Ends the process."""
        if self._worker:
            self._worker.close()
        self._worker = None

    def _new_worker(self, job):
        from measure import Worker, progress

        progress(self.name)
        os.environ["KERAS_BACKEND"] = self.job.framework
        self._worker = Worker("--work", json.dumps(job))
        return self._worker.greeting

    def _ask(self, call):
        try:
            if not self.failed:
                self.figures |= call()
        except (SystemExit, BrokenPipeError):
            self.figures["failed"] = "the process was killed"

    def cells(self, reference):
        """The row's cells; its peak relative to that of `reference`, another row or None."""
        from measure import spread

        if self.failed:
            return [self.name, self.failed] + [""] * (len(COLUMNS) - 2)
        cells = [self.name, spread(self.times)]
        for precision in ("float32", "bfloat16"):
            pairs = zip(self.times, self.against.get(precision, ()), strict=False)
            ratios = [ours / theirs for ours, theirs in pairs]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        cells += [f"{self.figures[key]:.2f}" for key in ("cores", "before", "peak", "later")]
        if reference and not reference.failed:
            return [*cells, f"{self.figures['peak'] / reference.figures['peak']:.2f}"]
        return [*cells, ""]


def measure(rows, options):
    """Measures the rows of one batch; yields each and the authors' row in float32, if any."""
    from measure import interleaved

    references, free = {}, available()
    for row in rows:
        theirs = [
            reference
            for precision, reference in references.items()
            if precision in ("float32", row.job.precision) and not reference.failed
        ]
        together = [*theirs, row]
        peak = 1 + 2 * row.job.batch * (options.size / 473) ** 2  # GB, most of it kept when idle
        if options.sequential or options.batches or peak * len(together) > free:
            together = [row]
            for reference in references.values():
                reference.stop()
        for each in together:
            each.start(options)
        times = interleaved({each: each.step for each in together}, options.rounds)
        row.times = times[row]
        row.against = {r.job.precision: times.get(r, r.times) for r in theirs}
        if (row.job.form, row.job.precision) in REFERENCES:
            references[row.job.precision] = row
            row.against[row.job.precision] = row.times
        else:
            row.stop()
        yield row, references.get("float32")
    for reference in references.values():
        reference.stop()


def too_large(job, done):
    """Why a row can't be measured, by the same with the batch before, or nothing."""
    smaller = [
        row
        for row in done
        if dataclasses.replace(row.job, batch=job.batch) == job
        # The authors' network doesn't train with one image, for another reason than memory.
        and not str(row.failed).startswith("ValueError")
    ]
    if not smaller:
        return {}
    last = smaller[-1].figures
    if "failed" in last:
        return {"failed": last["failed"]}
    share = 1 if "accumulated" in job.form else job.batch / smaller[-1].job.batch
    needed = last["before"] + (last["peak"] - last["before"]) * share
    return {"failed": f"not run, needs about {needed:.0f} GB"} if needed > available() else {}


def draw(rows, path):
    """Draws the time per image and the peak memory over the batch."""
    import matplotlib.pyplot as plt

    figure, (times, peaks) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    rows = [row for row in rows if not row.failed]
    for name in dict.fromkeys(row.name.rpartition(", ")[0] for row in rows):
        some = [row for row in rows if row.name.rpartition(", ")[0] == name]
        batches = [row.job.batch for row in some]
        style = "o--" if name.startswith("authors") else "o-"
        per_image = [statistics.median(row.times) / row.job.batch for row in some]
        times.plot(batches, per_image, style)
        peaks.plot(batches, [row.figures["peak"] for row in some], style, label=name)
    times.set(ylabel="time of a training step (ms per image)")
    peaks.set(ylabel="peak memory of the process (GB)")
    for axes in (times, peaks):
        axes.set(xlabel="batch (images)", ylim=(0, None))
        axes.set_xticks(sorted({row.job.batch for row in rows}))
    figure.legend(*peaks.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=150)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", type=Path, help="checkout of hszhao/semseg")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=473)
    parser.add_argument("--depth", type=int, default=50, help="of the ResNet")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows besides the references")
    parser.add_argument("--remat", nargs="+", default=[""], help="PSPNet(remat=...) to measure")
    parser.add_argument("--sequential", action="store_true", help="one process at a time")
    parser.add_argument("--batches", nargs="+", type=int, help="measure growth with the batch")
    parser.add_argument("--figure", type=Path, help="draw the growth")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def wanted(options, batch):
    """The rows of a batch, the references first."""
    for form, precision in GROWTH if options.batches else FORMS:
        theirs = form.startswith("authors")
        for remat in [""] if theirs else options.remat:
            row = Row(Job("network", form, precision, batch, options.depth, remat))
            chosen = not options.only or any(text in row.name for text in options.only)
            chosen = chosen or (form, precision) in REFERENCES
            if chosen and (options.semseg or not theirs):
                yield row


def main():
    """Prints the table; fails if no row has figures."""
    options = arguments()
    if options.work:
        work(types.SimpleNamespace(**options.work))
        return 0
    # Imports Keras, whose memory the authors' process doesn't need.
    from measure import environment

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    batches = options.batches or [options.batch]
    frameworks = sorted({row.job.framework for row in wanted(options, 1)})
    print(environment([name for name in frameworks if importlib.util.find_spec(name)]))
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    done = []
    for batch in batches:
        rows = list(wanted(options, batch))
        for row in rows:
            row.figures = too_large(row.job, done)
        for row, reference in measure(rows, options):
            print(f"| {' | '.join(row.cells(reference))} |", flush=True)
        done += rows
    if options.figure:
        draw(done, options.figure)
    return all(row.failed for row in done)


if __name__ == "__main__":
    raise SystemExit(main())
