"""Tests of the effect of the pyramid with tiny networks."""

import argparse
from pathlib import Path

import pytest
from support.networks import tiny_predictor

import keras_psp

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_gain_is_the_difference_to_constant_levels(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from without_pyramid import row

    source = keras_psp.data.GeneratedScenes(image_size=(48, 48), counts={"train": 4, "val": 2})
    args = argparse.Namespace(split="val", limit=None, every=2)
    arguments = {"class_names": source.class_names}
    model = tiny_predictor(source.num_classes, pooling="max", reduction=None, **arguments)
    path = tmp_path / "network.keras"
    model.save(path)
    kind, name, *values = row(path, source, args)
    mean_iou, without, gain, dependent, misled = map(float, values)
    assert (kind, name) == ("B12+MAX", "network.keras")
    expected = keras_psp.evaluate(source, model, progress=False).measures.mean_iou
    assert mean_iou == pytest.approx(100 * expected, abs=0.006)
    assert gain == pytest.approx(mean_iou - without, abs=0.011)
    assert 0 <= dependent <= 100 and 0 <= misled <= 100
    tiny_predictor(source.num_classes, bin_sizes=(), **arguments).save(path)
    assert row(path, source, args) is None
