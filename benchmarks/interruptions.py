"""Kills a training twenty times at random moments and compares it with an uninterrupted one.

    python benchmarks/interruptions.py --kills 20

All runs use one small recipe with dropout, shuffling, augmentation, checkpoints every two steps and
a validation after every epoch. One is not interrupted. The others get SIGKILL several times at
random moments (at startup, in and between steps, in a checkpoint, in a validation) and are
restarted with the same command until they finish. Then the losses of all steps are compared with
those of the uninterrupted run. After each kill, every checkpoint is read.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import environment, progress, rows_written

from keras_psp.training.log import EPOCH_COLUMNS, STEP_COLUMNS, Table


def small_training(output):
    """The training to interrupt: 2 epochs of 8 steps, each with a validation."""
    from keras_psp import data, train

    counts = {"train": 32, "val": 4}
    train(
        "scenes",
        data=data.GeneratedScenes(image_size=(96, 96), counts=counts),
        output=output,
        progress=False,
        epochs=2,
        batch_size=4,
        warmup_steps=4,
        rotate=10.0,
        blur=True,
        checkpoint_steps=2,
    )


def command(output):
    """The command line of the training."""
    return [sys.executable, __file__, "--train", str(output)]


def openable(folder):
    """Reads all checkpoints and returns their number; raises if one is corrupt."""
    files = sorted(folder.glob("step-*.npz"))
    for path in files:
        with np.load(path) as file:
            for name in file.files:  # each member has a checksum
                file[name]
    return len(files)


def main():
    """Prints the largest difference in each column of the logs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--train", type=Path, metavar="OUTPUT", help="only train, into a folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.train:
        small_training(options.train)
        return 0
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress("the uninterrupted run")
        subprocess.run(command(folder / "uninterrupted"), check=True, capture_output=True)
        kills, runs, resumed = [], 0, 0
        worst = {}
        while len(kills) < options.kills:
            output = folder / f"killed{runs}"
            steps = killed_until_it_ends(output, generator, options.kills - len(kills))
            kills += steps
            resumed += sum(step > 0 for step in steps)
            compare(folder / "uninterrupted", output, worst)
            runs += 1
            progress(f"run {runs} finished after kills at steps {steps}")
            shutil.rmtree(output)
    print(f"{environment(['tensorflow'])}\n")
    print(f"{len(kills)} kills in {runs} runs, {resumed} of them after the first step.")
    print(f"Steps at the kills: {', '.join(map(str, kills))}. Every checkpoint was readable.\n")
    print("| column | largest difference from the uninterrupted run |")
    print("|---|---|")
    for name in sorted(worst):
        print(f"| {name} | {worst[name]:.1e} |")
    return not all(value <= 1e-6 for value in worst.values())


def killed_until_it_ends(output, generator, most):
    """Kills and restarts one run until it finishes; returns the steps done at each kill."""
    kills = []
    while len(kills) < min(most, 7):
        process = subprocess.Popen(
            command(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = rows_written(output)
        more = generator.choice((0, 1, 1, 2, 2, 3, 4, 6))  # 0: during startup
        moment = generator.uniform(0.0, 4.0 if more == 0 else 0.6)
        while process.poll() is None and rows_written(output) < before + more:
            time.sleep(0.01)
        time.sleep(moment)
        if process.poll() is not None:
            if process.returncode:
                raise SystemExit("a resumed run failed")
            return kills
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills.append(rows_written(output))
        openable(output / "checkpoints")
        progress(f"kill after step {kills[-1]}")
    subprocess.run(command(output), check=True, capture_output=True)
    return kills


def compare(uninterrupted, killed, worst):
    """Updates the largest difference of each column of both tables."""
    for name, columns in (("steps.csv", STEP_COLUMNS), ("log.csv", EPOCH_COLUMNS)):
        one, other = (Table(run / name, columns, writes=False) for run in (uninterrupted, killed))
        for column in set(columns) - {"images_per_second"}:
            a, b = np.array(one.column(column)), np.array(other.column(column))
            if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
                raise SystemExit(f"{name}, {column}: {a} uninterrupted, {b} after the kills")
            key = f"{name} {column}"
            worst[key] = max(worst.get(key, 0.0), float(np.nanmax(np.abs(a - b), initial=0.0)))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
