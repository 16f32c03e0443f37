import numpy as np
import pytest
from keras import ops

import keras_psp
from keras_psp.weights import WeightsFileError
from keras_psp.weights.compact import open_compact, save_compact


@pytest.fixture(scope="module")
def model():
    backbone = keras_psp.DilatedResNet(18, num_stages=2, stem_filters=(64,), name="backbone")
    names = ["water", "boat", "car"]
    model = keras_psp.PSPNet(3, backbone=backbone, bin_sizes=(1, 2), class_names=names)
    rng = np.random.default_rng(0)
    for weight in model.weights:  # other statistics than 0 and 1
        weight.assign(weight + 0.1 * rng.random(weight.shape))
    return model


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("compact") / "network.npz"
    save_compact(model, path)
    return path


def test_kernels_are_rounded_to_127ths_of_their_filters_largest_weight(model, path):
    opened = open_compact(path)
    for old, new in zip(model.weights, opened.weights, strict=True):
        old, new = ops.convert_to_numpy(old), ops.convert_to_numpy(new)
        step = np.abs(old).max(axis=(0, 1, 2)) / 127 if old.ndim == 4 else 0.0
        assert np.all(np.abs(old - new) <= 0.5001 * step), old.shape


def test_a_compact_file_has_a_quarter_of_the_size_and_the_same_network(model, path, tmp_path):
    model.save(tmp_path / "network.keras")
    assert path.stat().st_size < 0.3 * (tmp_path / "network.keras").stat().st_size
    opened = open_compact(path)
    assert opened.class_names == model.class_names
    assert opened.backbone.num_stages == 2 and opened.bin_sizes == (1, 2)
    images = np.random.default_rng(1).integers(0, 256, (1, 60, 70, 3)).astype("float32")
    old, new = (ops.convert_to_numpy(network(images)) for network in (model, opened))
    assert np.abs(old - new).max() < 0.05 * np.ptp(old)


def test_a_zero_filter_stays_zero(model, tmp_path):
    kernel = model.get_layer("classifier").kernel
    before = ops.convert_to_numpy(kernel).copy()
    changed = before.copy()
    changed[..., 1] = 0
    kernel.assign(changed)
    save_compact(model, tmp_path / "zero.npz")
    kernel.assign(before)
    opened = ops.convert_to_numpy(
        open_compact(tmp_path / "zero.npz").get_layer("classifier").kernel
    )
    assert not opened[..., 1].any() and opened[..., 0].any()


def test_other_files_are_refused_and_named(path, tmp_path):
    half = tmp_path / "half.npz"
    half.write_bytes(path.read_bytes()[:5000])
    other = tmp_path / "other.npz"
    np.savez(other, values=np.zeros(3))
    for wrong in (half, other):
        with pytest.raises(WeightsFileError, match=wrong.name):
            open_compact(wrong)
    with pytest.raises(FileNotFoundError):
        open_compact(tmp_path / "none.npz")


def test_damaged_files_are_refused_and_named(path, tmp_path):
    with np.load(path) as file:
        arrays = dict(file)
    arrays.pop("weight5")
    np.savez(tmp_path / "lacks.npz", **arrays)
    with pytest.raises(WeightsFileError, match=r"lacks.npz doesn.t contain a network .*weight5"):
        open_compact(tmp_path / "lacks.npz")
    with open(tmp_path / "alone.npz", "wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(
        WeightsFileError, match=r"alone.npz doesn.t contain a network saved by save_compact"
    ):
        open_compact(tmp_path / "alone.npz")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2  # of a compressed array
    data[middle : middle + 99] = bytes(99)
    (tmp_path / "spoiled.npz").write_bytes(data)
    with pytest.raises(
        WeightsFileError, match=r"spoiled.npz doesn.t contain a network saved by save_compact"
    ):
        open_compact(tmp_path / "spoiled.npz")
