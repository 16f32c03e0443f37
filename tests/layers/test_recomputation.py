"""What isn't stored for the backward pass: same gradients and statistics, less memory."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

SCRIPT = """
import json, sys
import keras
import numpy as np
from keras import ops

from keras_psp.layers.resnet import DilatedResNet

dtype, batch, static, modes, size = json.loads(sys.argv[1])
depths = (18, 50) if max(size) < 200 else (50,)
backend = keras.backend.backend()
rng = np.random.default_rng(0)
x = rng.normal(size=(batch, *size, 3)).astype("float32")


def network(depth, remat):
    keras.utils.set_random_seed(0)
    dilations = (1, 2, 1, 1) if depth == 18 else None  # with strides, as in mmsegmentation's d32
    options = {"stem_filters": (8, 8, 8), "num_stages": 2, "dilations": dilations}
    layer = DilatedResNet(depth, remat=remat, dtype=dtype, **options)
    layer.build((None, None, None, 3))
    values = np.random.default_rng(1)
    for variable in layer.weights:
        if variable.name in ("gamma", "beta", "moving_mean", "moving_variance", "bias"):
            variable.assign(values.uniform(0.5, 1.5, variable.shape))
    return layer


def loss_of(maps):
    auxiliary, features = (ops.cast(x, "float32") for x in maps)
    return ops.mean(ops.square(auxiliary - 1)) + ops.mean(ops.square(features))


def tensorflow_gradients(layer):
    import tensorflow as tf

    shape = x.shape if static else (None, *x.shape[1:])

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape)])
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = loss_of(layer(x, training=True))
        return tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])

    found = gradients(tf.constant(x))
    info = tf.config.experimental.get_memory_info
    try:
        peaks = []
        # It varies with the order in which operations happen to run.
        for _ in range(20 if max(size) > 200 else 1):
            before = info("CPU:0")["current"]
            tf.config.experimental.reset_memory_stats("CPU:0")
            gradients(tf.constant(x))
            peaks.append(info("CPU:0")["peak"] - before)
        return found, min(peaks)
    except ValueError:  # this build doesn't count
        return found, None


def jax_gradients(layer):
    import jax

    def loss(values, others):
        x, *trainable = values
        maps, others = layer.stateless_call(trainable, others, x, training=True)
        return loss_of(maps), others

    arguments = (
        [x, *[v.value for v in layer.trainable_variables]],
        [v.value for v in layer.non_trainable_variables],
    )
    compiled = jax.jit(jax.grad(loss, has_aux=True)).lower(*arguments).compile()
    gradients, others = compiled(*arguments)
    for variable, value in zip(layer.non_trainable_variables, others):
        variable.assign(value)
    return gradients, compiled.memory_analysis().temp_size_in_bytes


def torch_gradients(layer):
    import torch

    images, stored = torch.tensor(x, requires_grad=True), {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(layer(images, training=True))
    loss.backward()
    return [images.grad, *[v.value.grad for v in layer.trainable_variables]], sum(stored.values())


results = {}
for depth in depths:
    for mode in modes:
        layer = network(depth, mode)
        gradients, memory = globals()[f"{backend}_gradients"](layer)
        for kind, tensors in (
            ("gradients", gradients), ("statistics", layer.non_trainable_variables)
        ):
            flat = [np.ravel(ops.convert_to_numpy(ops.cast(t, "float32"))) for t in tensors]
            lengths = [len(values) for values in flat]
            results[f"{depth} {mode} {kind}"] = np.concatenate(flat)
            results[f"{depth} {mode} {kind} ends"] = np.cumsum(lengths)
        results[f"{depth} {mode} memory"] = -1 if memory is None else memory
np.savez(sys.argv[2], **results)
"""
BACKENDS = ("tensorflow", "jax", "torch")
MODES = ("none", "activations", "blocks")


@functools.cache
def results(backend, dtype="float32", batch=2, *, static=True, modes=MODES, size=(97, 129)):
    """A function from (depth, mode, kind) to a list of arrays or bytes."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/results.npz"
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps([dtype, batch, static, modes, size]), file],
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found = dict(np.load(file))

    def result(depth, mode, kind):
        values = found[f"{depth} {mode} {kind}"]
        if kind == "memory":
            return None if values < 0 else int(values)
        return np.split(values.astype("float64"), found[f"{depth} {mode} {kind} ends"][:-1])

    return result


def distance(ours, theirs):
    """The relative distance of two lists of tensors."""
    ours, theirs = (np.concatenate([np.ravel(x) for x in tensors]) for tensors in (ours, theirs))
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("batch", "static"),
    [(2, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, False), (1, True)))],
)
def test_gradients_and_statistics_are_the_same(backend, batch, static):
    if not static and backend != "tensorflow":
        pytest.skip("every size is known there")
    # Rounding differs, and where it turns the sign of what a ReLU takes, so does a pixel's share.
    bound = 1e-4 if (backend, batch) == ("torch", 1) else 3e-6
    found = results(backend, batch=batch, static=static)
    for depth in (18, 50):
        for mode in MODES[1:]:
            for kind in ("gradients", "statistics"):
                apart = distance(found(depth, mode, kind), found(depth, "none", kind))
                assert apart < bound, (depth, mode, kind)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_less_is_in_memory(backend):
    found = results(backend, size=(193, 257))
    none, activations, blocks = (found(50, mode, "memory") for mode in MODES)
    if none is None:
        pytest.skip("this build of TensorFlow doesn't count its memory")
    # TensorFlow's least gain is near zero in a network this small.
    most = 1.0 if backend == "tensorflow" else 0.94
    assert activations < most * none, (none, activations)
    assert blocks < 0.9 * activations, (activations, blocks)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_is_as_exact(backend):
    exact, half = results(backend), results(backend, "mixed_bfloat16")
    for depth in (18, 50):
        true = exact(depth, "none", "gradients")
        errors = {mode: distance(half(depth, mode, "gradients"), true) for mode in MODES}
        assert max(errors.values()) < 1.5 * errors["none"], errors
