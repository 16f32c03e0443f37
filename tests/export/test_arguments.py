"""Odd arguments of every exporter: refused by their name, or the export runs."""

import inspect
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from support.networks import tiny_pspnet

from keras_psp import export

EXPORTERS = {
    "onnx": ".onnx",
    "openvino": "",
    "saved_model": "",
    "tf_serving": "",
    "tflite": ".tflite",
}
ODD = st.one_of(
    st.sampled_from([None, "", "a", b"x", (), [], {}, object(), True, False, math.nan, math.inf]),
    st.integers(-2, 0),
    st.sampled_from([10**9, 1.5, np.float32(2)]),
    st.tuples(st.integers(-1, 2)),
    st.tuples(st.integers(-1, 39), st.sampled_from([64, -1, 0, "a", 2.5])),
    st.tuples(*[st.just(64)] * 3),
)
VALID = {"batch_size": None, "image_size": None, "preset": None, "license": None}


@pytest.fixture(scope="module")
def model():
    return tiny_pspnet()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTERS)
def test_an_odd_argument_is_refused_by_its_name_or_the_export_runs(name, model, tmp_path):
    exporter = getattr(export, name)
    target, *options = list(inspect.signature(exporter).parameters)[1:]
    options = [option for option in options if option not in ("progress", "winograd", "files")]

    @hypothesis.settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.sampled_from([target, *options]), ODD)
    def check(argument, value):
        if argument in VALID and value is VALID[argument]:
            return  # the default; other tests export with it
        path = tmp_path / f"{name}{EXPORTERS[name]}"
        arguments = {target: path, "image_size": (48, 48), argument: value}
        if argument == target and isinstance(value, str) and value:
            arguments[target] = str(tmp_path / value)
        try:
            exporter(model, **arguments)
        except (TypeError, ValueError) as caught:
            error = caught
        else:
            return
        assert argument in str(error), (argument, value, error)

    check()
