import re

import keras
import numpy as np
import pytest
from support.networks import tiny_backbone, two_layers

from keras_psp import SGD, DilatedBackbone, PSPNet
from keras_psp.optimizers import AdamW

BOTH = pytest.mark.parametrize("make", [SGD, AdamW])


def factors(model, optimizer):
    """The learning-rate factor of each variable by its path."""
    optimizer.build(model.trainable_variables)
    multipliers = optimizer._multipliers
    return {v.path: m for v, m in zip(model.trainable_variables, multipliers, strict=True)}


@BOTH
def test_training_resumes_after_saving(make, tmp_path):
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.zeros((8, 2))
    model = two_layers()
    model.compile(make(0.01, head_multiplier=3.0, layer_decay=0.5, weight_decay=0.1), "mse")
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert again.optimizer._multipliers == [0.5, 0.5, 3.0, 3.0]
    for m in (model, again):
        m.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )


def test_amsgrad_is_kept_in_the_configuration():
    optimizer = AdamW(0.01, amsgrad=True)
    assert AdamW.from_config(optimizer.get_config()).amsgrad


@BOTH
@pytest.mark.parametrize("num_stages", [2, 4])
def test_the_learning_rate_falls_from_the_last_stage_to_the_stem(make, num_stages):
    model = PSPNet(3, backbone=tiny_backbone(num_stages=num_stages), bin_sizes=(1, 2))
    seen = set()
    for path, factor in factors(model, make(layer_decay=0.5, head_multiplier=7.0)).items():
        stage = re.search(r"backbone/(stem|stage\d)", path)
        # mmsegmentation: decay ** (number of layers - number of this layer - 1), with the head as
        # the last layer.
        names = ["stem", *(f"stage{n + 2}" for n in range(num_stages))]
        expected = 0.5 ** (len(names) - names.index(stage[1])) if stage else 7.0
        assert factor == expected, path
        seen.add(factor)
    assert len(seen) == num_stages + 2


def test_without_layer_decay_the_backbone_has_one_factor():
    model = PSPNet(3, backbone=tiny_backbone(), bin_sizes=(1, 2))
    for path, factor in factors(model, SGD()).items():
        assert factor == (1.0 if path.startswith("backbone/") else 10.0), path


def test_the_layers_of_other_backbones_are_in_five_parts(tmp_path):
    x = inputs = keras.Input((None, None, 3))
    for number in range(12):
        x = keras.layers.Conv2D(4, 3, 2 if number < 4 else 1, padding="same")(x)
    backbone = DilatedBackbone(keras.Model(inputs, x, name="twelve"))
    model = PSPNet(3, backbone=backbone, bin_sizes=(1, 2), mean=(0,) * 3, std=(255,) * 3)
    by_path = factors(model, AdamW(layer_decay=0.5))
    values = [by_path[v.path] for v in model.backbone.trainable_variables]
    # Each kernel has the factor of its bias; the last layers learn fastest.
    assert values[::2] == values[1::2] == sorted(values[::2])
    assert [values[::2].count(0.5**n) for n in (5, 4, 3, 2, 1)] == [3, 2, 3, 2, 2]
    assert {f for p, f in by_path.items() if not p.startswith("backbone/")} == {10.0}
    model.save(tmp_path / "twelve.keras")
    again = keras.saving.load_model(tmp_path / "twelve.keras")
    assert list(factors(again, AdamW(layer_decay=0.5)).values()) == list(by_path.values())


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_decay": 0}, "layer_decay is 0; it must be a finite number > 0 and <= 1"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; it must be a finite number"),
        ({"head_multiplier": -1}, "head_multiplier is -1; it must be a finite number >= 0"),
        ({"backbone": 3}, "backbone is 3; it must be a string"),
    ],
)
def test_invalid_arguments_raise(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
