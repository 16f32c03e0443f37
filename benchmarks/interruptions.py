"""Kill a training twenty times at random moments; compare it with one left alone.

    python benchmarks/interruptions.py --kills 20

Runs of one small recipe, with dropout, shuffling, augmentation, checkpoints every two steps and
a validation every epoch. One is left alone; the others get kill -9 at random moments, several
each, while they start, in and between steps, in a checkpoint or a validation, and each time the
same command again until they come to their end. Then every step's loss is compared with that of
the one left alone. After each kill every checkpoint there is is read.
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
    """The training that is interrupted: 2 epochs of 8 steps, each with a validation."""
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
    """Number of checkpoints; raises if one doesn't open."""
    files = sorted(folder.glob("step-*.npz"))
    for path in files:
        with np.load(path) as file:
            for name in file.files:  # each member has a checksum
                file[name]
    return len(files)


def main():
    """Print the largest difference of a loss and how many checkpoints were unreadable."""
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
        progress("the run that is left alone")
        subprocess.run(command(folder / "alone"), check=True, capture_output=True)
        kills, runs, resumed = [], 0, 0
        worst = {}
        while len(kills) < options.kills:
            output = folder / f"killed{runs}"
            found = killed_until_it_ends(output, generator, options.kills - len(kills))
            kills += found
            resumed += sum(step > 0 for step in found)
            compare(folder / "alone", output, worst)
            runs += 1
            progress(f"run {runs} came to its end after kills at steps {found}")
            shutil.rmtree(output)
    print(f"{environment(['tensorflow'])}\n")
    print(f"{len(kills)} kills in {runs} runs, {resumed} of them after the first step.")
    print(
        f"Steps made at the kills: {', '.join(map(str, kills))}. Every checkpoint could be read.\n"
    )
    print("| column | largest difference from the run left alone |")
    print("|---|---|")
    for name in sorted(worst):
        print(f"| {name} | {worst[name]:.1e} |")
    return not all(value <= 1e-6 for value in worst.values())


def killed_until_it_ends(output, generator, most):
    """The steps made at each of several kills, from start to end of one run."""
    kills = []
    while len(kills) < min(most, 7):
        process = subprocess.Popen(
            command(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = rows_written(output)
        more = generator.choice((0, 1, 1, 2, 2, 3, 4, 6))  # 0: while it starts
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


def compare(alone, killed, worst):
    """Note the largest difference of each column of both tables."""
    for name, columns in (("steps.csv", STEP_COLUMNS), ("log.csv", EPOCH_COLUMNS)):
        one, other = (Table(run / name, columns, writes=False) for run in (alone, killed))
        for column in set(columns) - {"images_per_second"}:
            a, b = np.array(one.column(column)), np.array(other.column(column))
            if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
                raise SystemExit(f"{name}, {column}: {a} alone, {b} after the kills")
            key = f"{name} {column}"
            worst[key] = max(worst.get(key, 0.0), float(np.nanmax(np.abs(a - b), initial=0.0)))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
