"""Compares the losses of one training on one device, on two devices and on two machines.

    python benchmarks/distribution.py

Runs twenty steps of `keras_psp.train` on generated scenes with batch size 8, synchronized
BatchNorm and no dropout: on one device, on two virtual devices under MirroredStrategy, there with
gradient accumulation, in two processes under MultiWorkerMirroredStrategy, and with the JAX
backend on one device, on two, and in two processes under DataParallel. Then one of the two
TensorFlow processes is killed, both are restarted, and the losses are compared with those of an
uninterrupted run.

The runs use float64, a small learning rate and residual branches scaled by 0.1, because in 20
steps full random branches amplify the last digit of float32 to 0.01, and the comparison is about
the computation, not about rounding. (On JAX, Keras' BatchNorm still computes in float32.)
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import environment, progress, rows_written

from keras_psp.training.log import STEP_COLUMNS, Table

BATCH, STEPS = 8, 20
BOUND = 1e-3


def write_weights(path):
    """Writes the network that all runs start from."""
    import keras

    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    from keras_psp import DilatedResNet, PSPNet
    from keras_psp.data.scenes.classes import CLASS_NAMES

    backbone = DilatedResNet(18, stem_filters=(64,), output_stride=16, name="backbone")
    model = PSPNet(num_classes=len(CLASS_NAMES), backbone=backbone, dropout=0.0)
    for variable in model.backbone.trainable_variables:
        if variable.path.endswith("conv2/norm/gamma"):
            variable.assign(0.1 * np.ones(variable.shape))
    model.save(path)


def small_training(output, *, devices, parts):
    """Runs the training of one process."""
    import keras

    keras.config.set_floatx("float64")
    strategy = None
    if keras.backend.backend() == "tensorflow" and devices > 1:
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        split = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, split)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(devices)])
    from keras_psp import data, train

    counts = {"train": BATCH * STEPS // 2, "val": 5}
    train(
        "scenes",
        data=data.GeneratedScenes(image_size=(96, 96), counts=counts),
        output=output,
        weights=output.parent / "start.keras",
        strategy=strategy,
        progress=False,
        epochs=2,
        batch_size=BATCH,
        warmup_steps=10,
        learning_rate=0.002,
        dropout=0.0,
        gradient_accumulation_steps=parts,
        checkpoint_steps=3,
    )


def start(output, *, backend="tensorflow", devices=1, parts=1, machine=0, ports=()):
    """Starts a training process; with `ports`, one of `len(ports)` machines."""
    settings = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    addresses = [f"localhost:{port}" for port in ports]
    if backend == "jax":
        settings["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        settings["JAX_ENABLE_X64"] = "1"
        if ports:
            settings |= {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
                "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(ports)),
                "KERAS_DISTRIBUTION_PROCESS_ID": str(machine),
            }
    elif ports:
        task = {"type": "worker", "index": machine}
        settings["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    arguments = [str(output), str(devices), str(parts)]
    with open(f"{output}-{machine}.txt", "w") as errors:
        return subprocess.Popen(
            [sys.executable, __file__, "--train", *arguments], env=settings, stderr=errors
        )


def free_ports(count):
    """Ports that are not in use."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def finished(output, processes):
    """Waits for the processes and returns the loss of each step."""
    for machine, process in enumerate(processes):
        if process.wait(900):
            text = Path(f"{output}-{machine}.txt").read_text()
            raise SystemExit(f"{output.name}, process {machine} failed:\n{text[-3000:]}")
    return np.array(Table(output / "steps.csv", STEP_COLUMNS, writes=False).column("loss"))


def losses(folder, name, **options):
    """The losses of a run in one process, or in two with machines=2."""
    output = folder / name.replace(" ", "-")
    machines = options.pop("machines", 1)
    ports = free_ports(machines) if machines > 1 else ()
    processes = [start(output, machine=n, ports=ports, **options) for n in range(machines)]
    values = finished(output, processes)
    progress(f"{name}: {values[0]:.6f} ... {values[-1]:.6f}")
    return values


def interrupted_losses(folder):
    """The losses of two processes that are restarted after one of them was killed."""
    progress("killing one of two machines")
    output = folder / "killed"
    ports = free_ports(2)
    processes = [start(output, machine=n, ports=ports) for n in range(2)]
    checkpoints = output / "checkpoints"
    while not list(checkpoints.glob("step-*.npz")) or rows_written(output) < 8:
        if any(process.poll() is not None for process in processes):
            raise SystemExit("a process ended before it could be killed")
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    killed = time.perf_counter()
    try:
        processes[0].wait(300)
    except subprocess.TimeoutExpired:
        processes[0].kill()
        raise SystemExit("the other machine is still waiting after 5 minutes") from None
    seconds = time.perf_counter() - killed
    last = max(int(path.stem[5:]) for path in checkpoints.glob("step-*.npz"))
    message = Path(f"{output}-0.txt").read_text().strip().splitlines()[-1]
    print(f"The other machine stopped after {seconds:.0f} s: {message[:300]}")
    print(f"Both are restarted and resume after step {last}.\n")
    ports = free_ports(2)
    return finished(output, [start(output, machine=n, ports=ports) for n in range(2)])


def main():
    """Prints the largest relative difference of each run's losses from those of one device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs=3, metavar=("OUTPUT", "DEVICES", "PARTS"))
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    if options.train:
        output, devices, parts = options.train
        small_training(Path(output), devices=int(devices), parts=int(parts))
        return False
    if options.weights:
        write_weights(options.weights)
        return False
    jax, two, parts = {"backend": "jax"}, {"devices": 2}, {"parts": 2}
    # (run, run with equal losses, arguments). Each part has its own BatchNorm statistics, so
    # runs in parts are compared with runs in parts.
    one, one_jax, in_parts = "TensorFlow, one device", "JAX, one device", "one device in 2 parts"
    runs = [
        (one, None, {}),
        ("MirroredStrategy, 2 devices", one, two),
        ("MultiWorkerMirroredStrategy, 2 processes", one, {"machines": 2}),
        (in_parts, None, parts),
        ("MirroredStrategy, 2 devices in 2 parts each", in_parts, two | parts),
        (one_jax, None, jax),
        ("JAX DataParallel, 2 devices", one_jax, jax | two),
        ("JAX DataParallel, 2 processes", one_jax, jax | {"machines": 2}),
        ("JAX, one device in 2 parts", None, jax | parts),
        ("JAX, 2 devices in 2 parts each", "JAX, one device in 2 parts", jax | two | parts),
    ]
    killed = "MultiWorkerMirroredStrategy, one killed, both restarted"
    with tempfile.TemporaryDirectory() as name:
        start_file = Path(name) / "start.keras"
        subprocess.run([sys.executable, __file__, "--weights", start_file], check=True)
        by_run = {title: losses(Path(name), title, **arguments) for title, _, arguments in runs}
        by_run[killed] = interrupted_losses(Path(name))
    print(f"{environment(['tensorflow', 'jax'])}\n")
    print("| run | first loss | last loss | largest relative difference | compared with |")
    print("|---|---|---|---|---|")
    worst = 0.0
    for title, reference in [*((title, reference) for title, reference, _ in runs), (killed, one)]:
        values = by_run[title]
        row = f"| {title} | {values[0]:.5f} | {values[-1]:.5f} "
        if reference is None:
            print(row + "| | |")
            continue
        difference = float(np.max(np.abs(values / by_run[reference] - 1)))
        worst = max(worst, difference)
        print(row + f"| {difference:.1e} | {reference} |")
    print(f"\nlargest difference {worst:.1e}, bound {BOUND:.0e}")
    return not worst <= BOUND


if __name__ == "__main__":
    raise SystemExit(main())
