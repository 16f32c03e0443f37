import zipfile

import keras
import numpy as np
import pytest
from support.networks import tiny_predictor

from keras_psp.weights.temperature import store_temperature


def test_a_temperature_is_replaced_and_all_else_is_kept(tmp_path):
    model, path = tiny_predictor(), tmp_path / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        before = {name: archive.read(name) for name in archive.namelist()}
    store_temperature(path, 1.7, tmp_path / "new.keras")
    assert keras.saving.load_model(path).temperature == 1
    for temperature in (1.3, 1.7):
        store_temperature(path, temperature)
        assert keras.saving.load_model(path).temperature == temperature
    with zipfile.ZipFile(path) as archive:
        after = {name: archive.read(name) for name in archive.namelist()}
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == ["config.json"]
    assert path.read_bytes() == (tmp_path / "new.keras").read_bytes()
    loaded = keras.saving.load_model(path)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"isn't a .keras file of a PSPNet"):
        store_temperature(path, 2.0)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(ValueError, match="holds a Sequential, not a PSPNet"):
        store_temperature(path, 2.0)
    with pytest.raises(ValueError, match="temperature is 0"):
        store_temperature(path, 0)
