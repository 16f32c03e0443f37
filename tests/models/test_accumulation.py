"""Batches in parts on every backend, and `fit` on two machines."""

import importlib.util
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from support.networks import tiny_pspnet

SCRIPT = """
import json, sys
import keras
import numpy as np

machine, machines, parts, duplicated = json.loads(sys.argv[1])
strategy = None
keras.config.set_floatx("float64")
if keras.backend.backend() == "tensorflow" and machines > 1:
    import tensorflow as tf
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
if keras.backend.backend() == "jax" and machines > 1:
    keras.distribution.initialize()
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
import contextlib
from keras_psp import SGD, DilatedResNet, MeanIoU, PSPNet

keras.utils.set_random_seed(0)
with strategy.scope() if strategy else contextlib.nullcontext():
    backbone = DilatedResNet(18, stem_filters=(8,), num_stages=2, name="backbone")
    model = PSPNet(3, backbone=backbone, bin_sizes=(1, 2), fusion_filters=8, dropout=0.0)
    model.compile(SGD(0.01), metrics=[MeanIoU(3)], gradient_accumulation_steps=parts)
rng = np.random.default_rng(0)
images, masks = rng.uniform(0, 255, (4, 4, 17, 25, 3)), rng.integers(0, 3, (4, 4, 17, 25))
masks[:, :2, :9] = 255  # unequal numbers of ignored pixels
if duplicated:  # every second example again: parts with the whole batch's statistics
    images, masks = images.repeat(2, axis=1), masks.repeat(2, axis=1)
share = images.shape[1] // machines
mine = slice(machine * share, (machine + 1) * share)
images, masks = images[:, mine], masks[:, mine]
if machines > 1:
    import tensorflow as tf
    data = tf.data.Dataset.from_tensor_slices((images, masks))
    if strategy:
        batches = data
        data = strategy.distribute_datasets_from_function(lambda context: batches)
    losses = model.fit(data, epochs=2, verbose=0).history["loss"]
    value = model.evaluate(data, verbose=0)
else:
    images, masks = images.reshape(-1, 17, 25, 3), masks.reshape(-1, 17, 25)
    options = {"batch_size": share, "verbose": 0}
    losses = model.fit(images, masks, epochs=2, shuffle=False, **options).history["loss"]
    value = model.evaluate(images, masks, **options)
steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
print(json.dumps([*losses, *value, steps]))
"""


def started(backend, machine=0, machines=1, parts=1, *, duplicated=False, port=0):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["JAX_ENABLE_X64"] = "1"
    if machines > 1 and backend == "jax":
        environment |= {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"localhost:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(machines),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(machine),
        }
    elif machines > 1:
        cluster = {"worker": [f"localhost:{port + n}" for n in range(machines)]}
        task = {"type": "worker", "index": machine}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps([machine, machines, parts, duplicated])],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def found(process):
    """Losses of two epochs, loss and mean IoU of an evaluation, and the number of steps."""
    try:
        out, errors = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_batch_in_parts_is_one_step(backend):
    whole = started(backend, duplicated=True)
    parts = started(backend, parts=2, duplicated=True)
    expected, values = found(whole), found(parts)
    assert expected[-1] == values[-1] == 8  # two epochs of four batches
    # The losses only: BatchNorm's moving statistics move with every part.
    tolerance = 1e-6 if backend == "tensorflow" else 1e-4  # the others compute in float32
    np.testing.assert_allclose(values[:2], expected[:2], rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_machines_train_as_one(backend):
    with socket.socket() as first:
        first.bind(("localhost", 0))
        port = first.getsockname()[1]
    alone = found(started(backend))
    pair = [started(backend, machine, 2, port=port) for machine in range(2)]
    for values in [found(process) for process in pair]:
        np.testing.assert_allclose(values[:2], alone[:2], rtol=1e-6)
        # float32 on JAX, and an argmax that flips.
        np.testing.assert_allclose(values[2:], alone[2:], rtol=1e-2)


def test_parts_must_divide_the_batch():
    model = tiny_pspnet(3, bin_sizes=(1,))
    model.compile(gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="a batch of 3 examples can't be computed in 2 equal"):
        model.train_on_batch(np.zeros((3, 17, 25, 3)), np.zeros((3, 17, 25), "int32"))
    with pytest.raises(ValueError, match="gradient_accumulation_steps is 0; it must be"):
        model.compile(gradient_accumulation_steps=0)


def test_the_number_of_parts_is_saved(tmp_path):
    import keras

    model = tiny_pspnet(3, bin_sizes=(1,))
    model.compile(gradient_accumulation_steps=2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_compile_config()["gradient_accumulation_steps"] == 2
