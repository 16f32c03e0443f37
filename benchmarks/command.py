"""CPU time and peak memory of the command's answers: help, lists and mistakes.

    python benchmarks/command.py

Each command runs five times as a process of its own, taking turns, in a folder with nothing but
an empty folder. Exits with 1 if a median is above 0.5 s or 100 MB, or a status is not as expected.
The last row imports the package as a program does, for comparison.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import environment, progress

from keras_psp.cli import SUBCOMMANDS

BUNDLED = "pspnet_r18-d8_128x128_scenes"
LIMITS = (0.5, 100)  # s, MB
COMMANDS = [
    ("", 2),
    ("--help", 0),
    ("--version", 0),
    ("presets", 0),
    *((f"{name} --help", 0) for name in SUBCOMMANDS),
    ("trian", 2),
    ("train scenes --output r --epochz 3", 2),
    ("train scenes --output r --crop-size 2", 1),
    (f"evaluate folder --data none --model {BUNDLED}", 1),
    ("predict none.jpg", 1),
    ("export none.keras --format onnx", 1),
    ("fetch pspnet_r50", 1),
]


# A small process starts the command, since a child's peak begins with its parent's memory.
LAUNCH = """
import os, sys
quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(process, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3, os.waitstatus_to_exitcode(status))
"""


def run(program, words, folder):
    """Runs a process and returns its CPU seconds, peak memory in MB and exit status."""
    command = [sys.executable, "-S", "-c", LAUNCH, program, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    seconds, memory, status = done.stdout.split()
    return float(seconds), float(memory), int(status)


def main():
    program = shutil.which("keras-psp", path=str(Path(sys.executable).parent))
    rows = [(f"keras-psp {text}", program, text.split(), status) for text, status in COMMANDS]
    code = "import keras_psp"
    rows.append((f'python -c "{code}"', sys.executable, ["-c", code], 0))
    results = {label: [] for label, *_ in rows}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(5):
            for label, path, words, _ in rows:
                progress(f"{repeat + 1} of 5: {label}")
                results[label].append(run(path, words, folder))
    print(environment(["tensorflow"]), "\n\n| command | CPU, s | peak memory, MB | status |")
    print("|---|---|---|---|")
    failed = False
    for label, _, _, expected in rows:
        seconds, memory, statuses = zip(*results[label], strict=True)
        medians = statistics.median(seconds), statistics.median(memory)
        print(f"| `{label}` | {medians[0]:.2f} | {medians[1]:.0f} | {statuses[0]} |")
        if label.startswith("keras-psp"):
            failed |= set(statuses) != {expected}
            failed |= any(value > limit for value, limit in zip(medians, LIMITS, strict=True))
    return failed


if __name__ == "__main__":
    sys.exit(main())
