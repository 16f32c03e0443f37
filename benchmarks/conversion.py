"""Measures time and memory of converting a PSPNet-101 checkpoint and of opening the result.

    python benchmarks/conversion.py

Each step runs in a separate process. Its memory is the peak resident set minus that of a process
that only imports keras_psp. Without --file, the checkpoint is synthesized with the names and shapes
of mmsegmentation's r101-d8 with 150 classes. Exit status 1 if a bound is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

BOUNDS = {"seconds": 30, "memory": 3}
STEPS = {
    "import": "",
    "convert": "convert(sys.argv[1], verbose=False)",
    "convert and save": "convert(sys.argv[1], verbose=False).save(sys.argv[2])",
    "open the .keras file": "keras.models.load_model(sys.argv[2], compile=False)",
}


def run(step, *arguments):
    """Seconds inside the step, and the peak memory of its process in MB."""
    code = (
        "import sys, time, keras, keras_psp\n"
        "from keras_psp.weights import convert\n"
        f"start = time.perf_counter()\n{STEPS[step]}\n"
        "print(time.perf_counter() - start)\n"
    )
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, step
    unit = 1024 if sys.platform != "darwin" else 1024**2  # unit of ru_maxrss in bytes
    return float(out), usage.ru_maxrss / unit


def main():
    """Prints the table; returns whether a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or synthesized(Path(folder) / "pspnet_r101-d8.pth")
        size = path.stat().st_size / 2**20
        runs = {step: [] for step in STEPS}
        for number in range(options.runs):
            for step in STEPS:
                measure.progress(f"run {number + 1}: {step}")
                runs[step].append(run(step, path, Path(folder) / "out.keras"))
    base = sorted(memory for _, memory in runs["import"])[options.runs // 2]
    print(f"{path.name}, {size:.0f} MB; median of {options.runs} processes.\n")
    print("| step | seconds | peak memory above the imports, MB | relative to the file |")
    print("|---|---|---|---|")
    missed = False
    for step in list(STEPS)[1:]:
        seconds = sorted(s for s, _ in runs[step])[options.runs // 2]
        memory = sorted(m for _, m in runs[step])[options.runs // 2] - base
        print(f"| {step} | {seconds:.1f} | {memory:.0f} | {memory / size:.2f}x |")
        missed |= seconds > BOUNDS["seconds"] or memory > BOUNDS["memory"] * size
    print(f"\nBounds: {BOUNDS['seconds']} s, {BOUNDS['memory']}x the file.")
    return missed


def synthesized(path):
    """A checkpoint with the names and shapes of mmsegmentation's r101-d8, 150 classes."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support import checkpoints, writers

    writers.write_torch(path, {"meta": {}, "state_dict": checkpoints.mmsegmentation(101, 150)})
    return path


if __name__ == "__main__":
    raise SystemExit(main())
