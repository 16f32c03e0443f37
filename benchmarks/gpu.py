"""Measures PSPNet on one GPU: speed and memory on every backend beside the authors' PyTorch.

    git clone https://github.com/hszhao/semseg
    python benchmarks/gpu.py --semseg semseg               # at most nine minutes
    python benchmarks/gpu.py --semseg semseg               # again: the rows that are missing
    python benchmarks/gpu.py --semseg semseg --only bfloat16 --minutes 30
    python benchmarks/gpu.py --semseg semseg --smoke       # tiny sizes on the CPU
    python benchmarks/gpu.py --compiler > gpu_compiler.md  # without a GPU: JAX's compiler's figures

Images per second and peak device memory of training steps and class maps: PSPNet-50 and -101,
crops of 473, 150 classes, batch 16 and the largest that fits; then the loss and the pyramid's
convolution alone, and the input pipeline on the CPU. The most important rows come first. Each job
(inference and training of one network) runs in a process of its own with a time limit. Each row is
appended to gpu.jsonl (`--record`) when it is measured, and at the end, or if the script is stopped,
the table is printed and written to gpu.md. A row that fails, for instance out of memory, says so.
Rows that have figures, or ran out of memory, are not measured again. Needs JAX or PyTorch with CUDA
or both, and TensorFlow with CUDA for its own rows. A framework that isn't installed or sees no GPU
is left out with a note; gpu.log has the errors.

The authors' network gets normalized images, automatic mixed precision, cudnn.benchmark and, except
in the row "NCHW", channels_last; "authors compile" adds torch.compile. The rows "float32 (TF32)"
allow TF32 in convolutions and matrix products on both sides, those with "float32" don't.
"""

import argparse
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_table import OUT_OF_MEMORY, table

FORMS = ("jax", "authors compile", "authors", "torch", "tensorflow XLA", "tensorflow")
EXTRA_FORMS = ("authors NCHW", "torch compile")  # for one network and precision only
BATCH, SIZE, LARGEST = 16, 473, 0
TIME_OVER = "not finished, the time was over"
SETTINGS = {
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",  # JAX would stop at 0.75 of the memory
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
# On a busy CPU, PyTorch's threads wait for one another twenty times as long as one works.
SMOKE = {**ON_CPU, "OMP_NUM_THREADS": "1"}


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        kind: "network", "loss", "fusion" or "input pipeline".
        form: a framework and how it is used.
        batch: images per step; 0 is the largest that fits.
        depth: of the ResNet.
        remat: argument of `PSPNet`; "" is its default.
    """

    kind: str
    form: str
    precision: str = "bfloat16"
    batch: int = BATCH
    depth: int = 50
    remat: str = ""

    @property
    def name(self):
        what = f"PSPNet-{self.depth}" if self.kind == "network" else self.kind
        remat = f", remat={self.remat}" if self.remat else ""
        return f"{what} | {self.form}{remat} | {self.precision} | {self.batch or 'largest'}"

    @property
    def framework(self):
        return "torch" if self.form.startswith("authors") else self.form.split()[0]

    @property
    def needs(self):
        """The framework that has to see a GPU."""
        return None if self.kind == "input pipeline" else self.framework


def jobs(options):
    """All jobs, the most important first."""

    def network(depth, precision, forms=FORMS):
        return [Job("network", form, precision, depth=depth) for form in forms]

    yield from network(50, "bfloat16")
    yield from [Job("network", form, batch=LARGEST) for form in ("jax", "authors compile")]
    yield from [Job("network", f, remat=mode) for mode in options.remat for f in ("jax", "torch")]
    yield from network(50, "float32 (TF32)")
    yield from [Job(kind, "jax", "float32 (TF32)") for kind in ("loss", "fusion")]
    yield Job("input pipeline", "tensorflow", "")
    yield from network(101, "bfloat16")
    yield from network(50, "float16")
    for kind in ("loss", "fusion"):
        yield from [Job(kind, form, "float32 (TF32)") for form in ("torch", "tensorflow XLA")]
    yield from network(50, "bfloat16", EXTRA_FORMS)
    yield from [Job("network", form, batch=LARGEST) for form in ("torch", "authors")]
    yield from network(101, "float32 (TF32)") + network(101, "float16") + network(50, "float32")


class Record:
    """The rows measured so far: a file of JSON lines that every process appends to."""

    def __init__(self, path):
        self.path = path

    def write(self, job, phase, **figures):
        """Appends a row; phase "start" forgets earlier rows of the job, "end" completes it."""
        with self.path.open("a") as file:
            file.write(json.dumps({"job": job.name, "phase": phase, **figures}) + "\n")

    def rows(self):
        """The rows of each job, by its name and their phase."""
        rows = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            row = json.loads(line)
            if row["phase"] == "start":
                rows[row["job"]] = {}
            else:
                rows.setdefault(row["job"], {})[row["phase"]] = row
        return rows

    def state(self, job):
        """Returns "done" (figures or out of memory), "failed" or "missing"."""
        rows = self.rows().get(job.name, {})
        failures = {row.get("failed") for row in rows.values()} - {None, OUT_OF_MEMORY}
        if failures - {TIME_OVER}:
            return "failed"
        return "done" if "end" in rows and not failures else "missing"


def batches(job, record, options):
    """The batch sizes to try for a job, until one fits."""
    if job.batch != LARGEST:
        return [options.batch]
    if options.smoke:
        return [options.batch + 1]
    row = record.rows().get(dataclasses.replace(job, batch=options.batch).name, {}).get("training")
    if row is None or row.get("failed", OUT_OF_MEMORY) != OUT_OF_MEMORY:
        return []
    if row.get("failed") == OUT_OF_MEMORY:
        return [options.batch // 2, options.batch // 4, options.batch // 8]
    most = options.batch * row["limit_mb"] / row["peak_mb"]
    sizes = [int(share * most) // 4 * 4 for share in (0.97, 0.85, 0.7)]
    return [size for size in sizes if size > options.batch]


def run(job, record, options, limit):
    """Measures a job in another process."""
    arguments = dataclasses.asdict(job) | {"name": job.name, "smoke": options.smoke}
    arguments |= {"size": options.size, "limit": limit, "record": str(record.path)}
    # The largest batch matters in training only.
    arguments["phases"] = ["training"] if job.batch != options.batch else None
    arguments["semseg"] = options.semseg and str(options.semseg.absolute())
    if options.smoke and not job.form.startswith("authors"):
        arguments["depth"] = 18
    settings = {**SETTINGS, "KERAS_BACKEND": job.framework}
    if options.smoke or job.kind == "input pipeline":
        settings |= SMOKE if options.smoke else ON_CPU
    worker = [sys.executable, str(Path(__file__).with_name("gpu_rows.py")), json.dumps(arguments)]
    record.write(job, "start")
    start, failed = time.monotonic(), None
    with record.path.with_suffix(".log").open("a") as log:
        log.write(f"\n{job.name}\n")
        log.flush()
        process = subprocess.Popen(
            worker, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = process.wait(limit)
            failed = f"exit status {code}" if code else None
        except subprocess.TimeoutExpired:
            failed = f"stopped after {limit:.0f} s" if limit == options.limit else TIME_OVER
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # torch.compile has processes of its own
                process.wait()
    outcome = {"failed": failed} if failed else {}
    record.write(job, "end", seconds=time.monotonic() - start, **outcome)


def measure(record, options, unavailable):
    """Runs the jobs that are missing, then those that failed, until the time is over.

    Adds the frameworks that see no GPU to the set `unavailable`, and skips their other jobs.
    """
    end = time.monotonic() + 60 * options.minutes
    for job in sorted(options.jobs, key=lambda job: record.state(job) == "failed"):
        if record.state(job) == "done" or job.needs in unavailable:
            continue
        for batch in batches(job, record, options):
            tried = dataclasses.replace(job, batch=batch)
            if record.state(tried) == "done":
                continue
            left = end - time.monotonic()
            if left < (0 if options.smoke else 20):
                return
            print(f"{time.strftime('%H:%M:%S')} {tried.name}", file=sys.stderr, flush=True)
            run(tried, record, options, min(left, options.limit))
            rows = record.rows()[tried.name]
            if "device" in rows:
                unavailable.add(job.needs)
                break
            if job.batch == LARGEST and "images_per_second" in rows.get("training", {}):
                record.write(job, "end")
                break


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", type=Path, help="checkout of hszhao/semseg")
    parser.add_argument("--record", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--minutes", type=float, default=8.5, help="of all jobs together")
    parser.add_argument("--limit", type=float, default=150, help="seconds of one job")
    parser.add_argument("--only", default="", help="regular expression of the jobs to run")
    parser.add_argument("--remat", nargs="+", default=[], help="PSPNet(remat=...) to measure")
    parser.add_argument("--list", action="store_true", help="print the jobs and exit")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--compiler", action="store_true", help="JAX's compiler's figures")
    parser.add_argument("--batches", type=int, nargs=2, help="of --compiler")
    parser.add_argument("--size", type=int, help="side of the crops")
    options = parser.parse_args()
    options.batch = 2 if options.smoke else BATCH
    options.batches = options.batches or ((1, 2) if options.smoke else (BATCH // 2, BATCH))
    options.size = options.size or (41 if options.smoke else SIZE)
    options.jobs = [
        job if job.batch == LARGEST else dataclasses.replace(job, batch=options.batch)
        for job in jobs(options)
        if options.semseg or not job.form.startswith("authors")
    ]
    if options.smoke:
        options.jobs = representatives(options.jobs)
    options.jobs = [job for job in options.jobs if re.search(options.only, job.name)]
    return options


def representatives(every):
    """One job for each code path: kinds in each form, precisions where the code differs.

    TF32 is a setting of the device, which the loss and the fusion have as well. Where two jobs
    would do, the one that compiles faster: the largest batch in PyTorch, float16 without XLA.
    """
    seen = set()
    for job in every:
        paths = {(job.kind, job.form, job.batch == LARGEST, job.remat)}
        scaled = job.precision == "float16" and "XLA" not in job.form
        if scaled or (job.form == "jax" and "TF32" not in job.precision):
            paths.add((job.kind, job.form.split()[0], job.precision))
        if not paths <= seen and (job.batch != LARGEST or job.form == "torch"):
            yield job
        seen |= paths


def main():
    """Prints the table; fails if no job has figures."""
    options = arguments()
    if options.list:
        print("\n".join(job.name for job in options.jobs))
        return 0
    if options.compiler:
        os.environ |= {**SETTINGS, **ON_CPU, "KERAS_BACKEND": "jax"}
        from gpu_compiler import report

        report(options)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs
    record, unavailable = Record(options.record), set()
    try:
        measure(record, options, unavailable)
    finally:
        left = [job for job in options.jobs if record.state(job) == "missing"]
        missing = [job.name for job in left if job.needs not in unavailable]
        page = table(record.rows(), " ".join(sys.argv[1:]), missing)
        options.record.with_suffix(".md").write_text(page)
        print(page)
    figures = [row for rows in record.rows().values() for row in rows.values()]
    return not any("images_per_second" in row for row in figures)


if __name__ == "__main__":
    raise SystemExit(main())
