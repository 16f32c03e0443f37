import contextlib
import os
import subprocess

import keras
import numpy as np
import pytest

from keras_psp import SGD
from keras_psp.training.checkpoints import CheckpointError, Checkpoints, NotFiniteError


def small_model(units=3):
    """A model with dropout, BatchNorm and momenta, trained for two steps."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, name="dense"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="dropout"),
        ],
        name="small",
    )
    model.compile(SGD(0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def opened(folder, model):
    return Checkpoints(folder, model, [model.metrics[0]])


def train(model, steps):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        model.train_on_batch(rng.random((8, 4)), rng.random((8, 3)))


def state(model):
    values = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v).copy() for v in values]


def test_the_whole_state_is_restored(tmp_path):
    model = small_model()
    train(model, 3)
    opened(tmp_path, model).save(3, {"epoch": 1})
    expected = state(model)
    train(model, 2)
    continued = state(model)
    other = small_model()
    checkpoints = opened(tmp_path, other)
    assert checkpoints.restore() == {"epoch": 1}
    for a, b in zip(state(other), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    checkpoints.restore_metrics()
    assert float(other.metrics[0].result()) > 0
    # The dropout masks continue as well.
    train(other, 2)
    for a, b in zip(state(other), continued, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(tmp_path, capsys):
    model = small_model()
    checkpoints = opened(tmp_path, model)
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step})
    assert checkpoints.steps() == [3, 2]
    data = checkpoints.path(3).read_bytes()
    checkpoints.path(3).write_bytes(data[: len(data) // 2])
    assert checkpoints.restore() == {"step": 2}
    assert "step-00000003.npz can't be read" in capsys.readouterr().err
    middle = bytearray(checkpoints.path(2).read_bytes())
    middle[len(middle) // 2] ^= 255  # a flipped byte fails the checksum
    checkpoints.path(2).write_bytes(middle)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"):
        checkpoints.restore()


def test_a_file_marked_as_encrypted_falls_back_as_well(tmp_path, capsys):
    model = small_model()
    checkpoints = opened(tmp_path, model)
    for step in (1, 2):
        checkpoints.save(step, {"step": step})
    data = bytearray(checkpoints.path(2).read_bytes())
    data[data.rindex(b"PK\x01\x02", 0, data.index(b"PK\x01\x02") + 4) + 8] |= 1  # a flag of zip
    checkpoints.path(2).write_bytes(data)
    assert checkpoints.restore() == {"step": 1}
    assert "step-00000002.npz can't be read" in capsys.readouterr().err


def test_without_checkpoints_there_is_no_position(tmp_path):
    assert opened(tmp_path, small_model()).restore() is None


def test_another_network_is_refused(tmp_path):
    opened(tmp_path, small_model()).save(1, {})
    with pytest.raises(CheckpointError, match="has shape"):
        opened(tmp_path, small_model(units=5)).restore()


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    model = small_model()
    checkpoints = opened(tmp_path, model)
    checkpoints.save(1, {})
    model.layers[0].kernel.assign(np.full((4, 3), np.nan))
    with pytest.raises(NotFiniteError, match="kernel is no longer finite after step 2"):
        checkpoints.save(2, {})
    assert checkpoints.steps() == [1]


def test_drafts_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".step-00000002.npz-abc_1234").mkdir()
    opened(tmp_path, small_model())
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)], capture_output=True
    )
    if mount.returncode:
        pytest.skip("mounting a small disk is not permitted")
    try:
        model = small_model()
        checkpoints = opened(disk / "checkpoints", model)
        checkpoints.save(1, {"step": 1})
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024))
        with pytest.raises(OSError):
            checkpoints.save(2, {"step": 2})
        assert checkpoints.steps() == [1]
        assert checkpoints.restore() == {"step": 1}
        os.remove(filler)
        checkpoints.save(2, {"step": 2})
        assert checkpoints.restore() == {"step": 2}
    finally:
        subprocess.run(["umount", str(disk)], check=True)
