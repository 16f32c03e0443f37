"""Measures one job of gpu.py, in a process of its own; nothing to run by hand.

Appends one JSON line per row to the record. The first call of a step compiles; then rounds of
several calls are timed, each between two synchronizations of the device. JAX can't reset its peak
memory, so what needs less comes first: inference before training.
"""

import contextlib
import faulthandler
import importlib.metadata
import io
import json
import re
import statistics
import sys
import time
import traceback
import types
from pathlib import Path

from gpu_steps import STEPS, planned
from gpu_table import OUT_OF_MEMORY


class NoDevice(Exception):
    """A package that isn't installed or sees no GPU: the framework's other rows can't run."""


class Device:
    """The GPU as a framework sees it; the CPU with `smoke`.

    Args:
        framework: "jax", "torch" or "tensorflow".
        precision: "float32 (TF32)" allows TF32, "float32" doesn't.
        smoke: whether the CPU will do.

    Attributes:
        name: of the GPU.
        version: of the framework.
        limit: bytes of memory that the framework may use, or None.
    """

    def __init__(self, framework, precision, smoke):
        self.framework, self.name, self.limit = framework, "CPU", None
        try:
            self._module = __import__(framework)
        except ImportError as error:
            raise NoDevice(f"{framework} is not installed ({error})") from None
        self.version = self._module.__version__
        exact = precision == "float32"
        if framework == "jax":
            self._device = self._module.local_devices()[0]
            on_gpu = self._device.platform != "cpu"
            if exact:
                self._module.config.update("jax_default_matmul_precision", "highest")
        elif framework == "torch":
            on_gpu = self._module.cuda.is_available()
            self._module.set_float32_matmul_precision("highest" if exact else "high")
            self._module.backends.cudnn.allow_tf32 = not exact
            self._module.backends.cudnn.benchmark = True
        else:
            gpus = self._module.config.list_physical_devices("GPU")
            on_gpu = bool(gpus)
            self._module.config.experimental.enable_tensor_float_32_execution(not exact)
        self.on_gpu = on_gpu
        if not on_gpu and not smoke:
            raise NoDevice(f"{framework} {self.version} sees no GPU")
        if on_gpu and framework == "jax":
            self.name = self._device.device_kind
            self.limit = self._device.memory_stats()["bytes_limit"]
        elif on_gpu and framework == "torch":
            properties = self._module.cuda.get_device_properties(0)
            self.name, self.limit = properties.name, properties.total_memory
        elif on_gpu:
            details = self._module.config.experimental.get_device_details(gpus[0])
            self.name = details.get("device_name", "GPU")

    def synchronize(self, result):
        """Waits until `result` and all work before it are there."""
        if self.framework == "jax":
            self._module.block_until_ready(result)
        elif self.framework == "tensorflow":
            self._module.test.experimental.sync_devices()
        elif self.on_gpu:
            self._module.cuda.synchronize()

    def reset_peak(self):
        """Forgets the peak, where the framework can."""
        if self.on_gpu and self.framework == "torch":
            self._module.cuda.empty_cache()
            self._module.cuda.reset_peak_memory_stats()
        elif self.on_gpu and self.framework == "tensorflow":
            self._module.config.experimental.reset_memory_stats("GPU:0")

    def peak(self):
        """Bytes at the peak, or None on the CPU."""
        if not self.on_gpu:
            return None
        if self.framework == "jax":
            return self._device.memory_stats()["peak_bytes_in_use"]
        if self.framework == "torch":
            return self._module.cuda.max_memory_allocated()
        return self._module.config.experimental.get_memory_info("GPU:0")["peak"]


def timed(device, make, batch, smoke):
    """Compiles a step and times it.

    Args:
        make: a function that returns the step, possibly with attribute `executable`.
        batch: images per step.

    Returns:
        A dict of figures: images per second (median, least, most), seconds until the first
        result, peak memory in MB, and the compiler's figure on JAX.
    """
    device.reset_peak()
    start = time.perf_counter()
    step = make()
    result = step()
    device.synchronize(result)
    first = time.perf_counter() - start
    start = time.perf_counter()
    device.synchronize(step())
    once = time.perf_counter() - start
    count = 1 if smoke else max(1, min(20, round(0.8 / once)))
    rates = []
    for _ in range(2 if smoke else 5):
        start = time.perf_counter()
        for _ in range(count):
            result = step()
        device.synchronize(result)
        rates.append(batch * count / (time.perf_counter() - start))
    figures = {"images_per_second": statistics.median(rates), "least": min(rates)}
    figures |= {"most": max(rates), "first_seconds": first}
    if device.peak() is not None:
        figures["peak_mb"] = device.peak() / 2**20
    if hasattr(step, "executable"):
        figures["planned_mb"] = planned(step.executable) / 2**20
    if isinstance(result, dict):
        figures["loss"] = float(result["loss"])
    return figures


def input_rows(job):
    """Images per second of training_batches from files, on all cores, without the GPU."""
    import input_pipeline

    count, repeats = (10, 1) if job.smoke else (200, 5)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        input_pipeline.from_files(types.SimpleNamespace(count=count, repeats=repeats))
    for line in printed.getvalue().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and cells[1][:1].isdigit():
            yield cells[0], {"images_per_second": float(cells[1].split()[0])}


def reason(error):
    """One line for the table."""
    text = " ".join(str(error).replace("|", "/").split())
    if re.search("out of memory|RESOURCE_EXHAUSTED|OOM when allocating", text, re.IGNORECASE):
        return OUT_OF_MEMORY
    return f"{type(error).__name__}: {text[:150]}"


def rows(job):
    """Yields the rows of a job: its phase and figures, or why there are none."""
    if job.kind == "input pipeline":
        yield from input_rows(job)
        return
    framework = "torch" if job.form.startswith("authors") else job.form.split()[0]
    device = Device(framework, job.precision, job.smoke)
    about = {"device": device.name, "limit_mb": device.limit and device.limit / 2**20}
    versions = {"keras": importlib.metadata.version("keras"), framework: device.version}
    about["versions"] = versions
    steps = STEPS[job.form.split()[0] if job.kind == "network" else job.kind]
    for phase, make in steps(job).items():
        if job.phases and phase not in job.phases:
            continue
        try:
            figures = timed(device, make, job.batch, job.smoke)
        except Exception as error:  # the next phase may work
            traceback.print_exc()
            figures = {"failed": reason(error)}
        yield phase, {**about, **figures}


def main():
    job = types.SimpleNamespace(**json.loads(sys.argv[1]))
    faulthandler.dump_traceback_later(job.limit + 5, exit=True)  # if gpu.py was killed

    def write(**row):
        with Path(job.record).open("a") as file:
            file.write(json.dumps({"job": job.name, **row}) + "\n")

    try:
        for phase, figures in rows(job):
            write(phase=phase, **figures)
    except NoDevice as error:
        write(phase="device", failed=str(error))
    except Exception as error:
        traceback.print_exc()
        write(phase="all", failed=reason(error))


if __name__ == "__main__":
    main()
