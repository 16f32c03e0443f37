"""Functions shared by the benchmarks: compiled calls, timing, processes and environment."""

import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
from keras import ops

MODES = {"tensorflow": ("graph", "XLA"), "jax": ("jit",)}


def progress(text):
    """Prints a line with the time to stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def rows_written(output):
    """Number of steps that a training has logged in its folder."""
    path = output / "steps.csv"
    return max(0, len(path.read_text().splitlines()) - 1) if path.exists() else 0


def in_a_process(function, *arguments):
    """Calls a function in a separate process, which ends with this process.

    On SIGTERM or Ctrl-C, a training there saves a checkpoint, from which the next call resumes.
    """
    arguments = (function, *arguments)
    process = multiprocessing.get_context("spawn").Process(target=_called, args=arguments)
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:  # the child gets it from the terminal as well
        process.join()
        raise SystemExit(130) from None
    except SystemExit:  # raised by a handler of SIGTERM
        process.terminate()
        process.join()
        raise
    if process.exitcode:
        raise SystemExit(f"{function.__name__}: the process exited with {process.exitcode}")


def _called(function, *arguments):
    def end_with_parent():
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        function(*arguments)
    except KeyboardInterrupt as stopped:
        sys.exit(str(stopped) or 130)


class Worker:
    """The running script in another process that replies to each line with a line of JSON.

    Args:
        arguments: command-line arguments of the process.

    Attributes:
        greeting: the first reply, sent when the process is ready.
    """

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.greeting = self._reply()

    def __call__(self, request=""):
        """Sends a line and returns the reply."""
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        return self._reply()

    def close(self):
        """Ends the process."""
        self._process.communicate()

    def _reply(self):
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process ended before its reply")
        return json.loads(line)


def compiled(function, inputs, trained=(), *, mode):
    """Compiles `function` into a call that returns its value and the gradients of `trained`.

    `inputs` are the other variables that it reads; as constants they could be folded away.
    On PyTorch the call is eager, and doesn't wait for the device.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=mode == "XLA", autograph=False)
        def traced():
            with tf.GradientTape() as tape:
                value = function()
            return value, tape.gradient(value, [v.value for v in trained])

        def call():
            result = traced()
            tf.test.experimental.sync_devices()
            return result

        traced.get_concrete_function()
        return call
    if keras.backend.backend() == "torch":
        import torch

        def eager():
            value = function()
            values = [v.value for v in trained]
            return value, torch.autograd.grad(value, values) if trained else []

        return eager
    import jax

    def stateless(values, others):
        def value_of(values):
            pairs = zip([*trained, *inputs], [*values, *others], strict=True)
            with keras.StatelessScope(state_mapping=list(pairs)):
                return function()

        value, pullback = jax.vjp(value_of, values)
        return value, pullback(ops.ones_like(value))[0] if trained else []

    def values():
        return [v.value for v in trained], [v.value for v in inputs]

    executable = jax.jit(stateless).lower(*values()).compile()

    def call():
        return jax.block_until_ready(executable(*values()))

    call.executable = executable
    return call


def interleaved(calls, repeats):
    """Milliseconds of each call in alternating order, after one warm-up round."""
    times = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def spread(times):
    """Formats values as median (min to max)."""
    return f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})"


def environment(backends):
    """One line with versions, hardware and date."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    return (
        ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("keras", *backends))
        + f", Python {platform.python_version()}; {model[1] if model else platform.processor()}, "
        f"{os.cpu_count()} cores; {datetime.date.today()}"
    )
