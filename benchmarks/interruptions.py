"""Kill a training twenty times at random moments; compare it with one left alone.

    python benchmarks/interruptions.py --kills 20

Two runs of one small recipe, with dropout, shuffling, augmentation, checkpoints every two
steps and a validation every epoch. One is left alone; the other gets kill -9 at random
moments, from its start to its end, and each time the same command again. Then every step's
loss of both is compared, and after each kill every checkpoint there is is opened.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import environment, progress

from keras_psp.training.callbacks import EPOCH_COLUMNS, STEP_COLUMNS
from keras_psp.training.checkpoints import CheckpointError
from keras_psp.training.folder import Table


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
    with tempfile.TemporaryDirectory() as folder:
        return compared(Path(folder), options, generator)


def compared(folder, options, generator):
    """Run both and compare."""
    alone, killed = folder / "alone", folder / "killed"
    progress("the run that is left alone")
    start = time.perf_counter()
    subprocess.run(command(alone), check=True, capture_output=True)
    length = time.perf_counter() - start
    unreadable, moments, kills = 0, [], 0
    errors = folder / "errors.txt"
    while kills < options.kills:
        with open(errors, "w") as file:
            process = subprocess.Popen(command(killed), stdout=file, stderr=file)
        # A whole run's time: half of that is start and compilation, so most get a few steps.
        wait = generator.uniform(0.3, 0.8) * length
        try:
            process.wait(wait)
            if process.returncode:
                raise SystemExit(f"the resumed run failed: {errors.read_text()[-2000:]}")
            progress(f"it came to its end after {kills} kills; it is started anew")
            subprocess.run(["rm", "-rf", str(killed)], check=True)
            continue
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        kills += 1
        found = list((killed / "checkpoints").glob("step-*.npz"))
        moments.append(max((int(path.stem[5:]) for path in found), default=0))
        try:
            openable(killed / "checkpoints")
        except (OSError, ValueError, CheckpointError) as error:
            unreadable += 1
            print(error)
        progress(f"kill {kills} of {options.kills}, after step {moments[-1]}")
    subprocess.run(command(killed), check=True, capture_output=True)
    worst = {}
    for name, columns in (("steps.csv", STEP_COLUMNS), ("log.csv", EPOCH_COLUMNS)):
        one, other = (Table(run / name, columns, writes=False) for run in (alone, killed))
        for column in set(columns) - {"images_per_second"}:
            a, b = np.array(one.column(column)), np.array(other.column(column))
            if a.shape != b.shape:
                raise SystemExit(f"{name} has {len(a)} rows, and {len(b)} after the kills")
            worst[f"{name} {column}"] = float(np.nanmax(np.abs(a - b)))
    print(f"{environment(['tensorflow'])}; kill -9 at {options.kills} random moments.\n")
    print(f"last checkpoints at the kills: steps {', '.join(map(str, moments))}")
    print(f"unreadable checkpoints: {unreadable}\n")
    print("| column | largest difference |")
    print("|---|---|")
    for name in sorted(worst):
        print(f"| {name} | {worst[name]:.1e} |")
    return bool(unreadable) or max(worst.values()) > 1e-6


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
