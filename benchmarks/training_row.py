"""The process that measures one row of training_step.py; nothing to run by hand."""

import json
import os
import re
import resource
import sys
import time
import traceback
from pathlib import Path

from gpu_rows import reason
from gpu_steps import STEPS, ours


def tensorflow_steps(job):
    """The function that `fit` calls for each batch, and its kind of iterator."""
    import tensorflow as tf

    parts = max(1, job.batch // 2) if "accumulated" in job.form else 1
    model, *batch = ours(
        job, jit_compile="XLA" in job.form or "auto", gradient_accumulation_steps=parts
    )
    batches = iter(tf.data.Dataset.from_tensors(tuple(batch)).repeat())

    def training():
        model.make_train_function()
        return lambda: model.train_function(batches)

    return {"training": training}


def memory(key, file="/proc/self/status"):
    """An entry of Linux's account of this process, in GB."""
    return int(re.search(rf"{key}:\s+(\d+) kB", Path(file).read_text())[1]) * 1024 / 1e9


def available():
    """Memory of the machine that processes can still get, in GB."""
    return memory("MemAvailable", "/proc/meminfo")


def work(job):
    """Takes a step at the start and for each line of stdin; prints the loss and the memory."""
    # An allocation fails before the machine has no memory left for other processes.
    limit = int(1e9 * (memory("VmData") + available()))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        if job.form.startswith(("authors", "torch")):
            import torch

            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
        steps = {**STEPS, "tensorflow": tensorflow_steps}[job.form.split()[0]]
        make = steps(job)["training"]
        before = memory("VmRSS")
        step = make()
        float(step()["loss"])
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        print(json.dumps({"before": before}), flush=True)
        spent = wall = 0.0
        for _ in sys.stdin:
            cpu, clock = time.process_time(), time.perf_counter()
            reply = {"loss": float(step()["loss"])}
            spent, wall = spent + time.process_time() - cpu, wall + time.perf_counter() - clock
            reply["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            print(
                json.dumps({**reply, "later": memory("VmHWM"), "cores": spent / wall}), flush=True
            )
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"failed": reason(error)}), flush=True)
