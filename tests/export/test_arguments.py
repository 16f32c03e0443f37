"""Odd arguments of every exporter: refused by their name, or the export runs."""

import inspect
import math
import time

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
OPENERS = ("open_export", "open_onnx", "open_openvino", "open_tflite")
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


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (48, 20_000)}, "image_size is .*; exports take at most 16,384 pixels per"),
        ({"image_size": (48, 10**9)}, "image_size is .*; exports take at most 16,384 pixels per"),
        ({"image_size": (48.5, 48)}, "image_size is .*; it must be two positive integers"),
        ({"batch_size": 10**6, "image_size": (48, 48)}, "2,304,000,000 pixels per call; exports"),
        ({"batch_size": 0}, "batch_size is 0; it must be an integer >= 1"),
        ({"batch_size": True}, "batch_size is True; it must be an integer >= 1"),
        ({"output": "masks"}, "output is 'masks'; choose one of 'classes'"),
        ({"input_dtype": "int8"}, "input_dtype is 'int8'; choose one of 'uint8'"),
    ],
)
def test_every_exporter_refuses_before_the_work(name, arguments, message, model, tmp_path):
    exporter = getattr(export, name)
    if not arguments.keys() <= inspect.signature(exporter).parameters.keys():
        pytest.skip(f"{name} has no batch_size")
    started = time.perf_counter()
    with pytest.raises(ValueError, match=message):
        exporter(model, tmp_path / f"m{EXPORTERS[name]}", **arguments)
    assert time.perf_counter() - started < 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("onnx", {"winograd": "no"}, "winograd is 'no'; it must be True or False"),
        ("openvino", {"winograd": 2}, "winograd is 2; it must be True or False"),
        ("saved_model", {"winograd": 2}, "winograd is 2; it must be True or False"),
        ("tf_serving", {"winograd": 2}, "winograd is 2; it must be True or False"),
        ("tflite", {"winograd": None}, "winograd is None; it must be True or False"),
        ("onnx", {"reduce_range": 1}, "reduce_range is 1; it must be True or False"),
        ("onnx", {"reduce_range": True}, "for precision='int8' but this is 'float32'; leave it"),
        ("tf_serving", {"max_pixels": 0}, "max_pixels is 0; it must be an integer >= 1"),
        ("tflite", {"precision": 8}, "precision is 8; choose one of 'float32'"),
    ],
)
def test_options_of_one_format_are_refused(name, arguments, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        getattr(export, name)(model, tmp_path / f"m{EXPORTERS[name]}", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tflite", "onnx", "openvino"])
def test_int8_refuses_networks_of_images_of_0_to_1(name, tmp_path):
    # Ranges of images of 0..255 would be 255 times too wide.
    model = tiny_pspnet(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    settings = {"precision": "int8", "image_size": (48, 48), "input_dtype": "float32"}
    pixels = [np.zeros((48, 48, 3), "uint8")]
    with pytest.raises(ValueError, match=r"those of images of 0\.\.1; export PSPNet\(weights="):
        getattr(export, name)(
            model, tmp_path / f"m{EXPORTERS[name]}", representative=pixels, **settings
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["openvino", "saved_model"])
def test_a_folder_is_not_named_like_a_file(name, model, tmp_path):
    with pytest.raises(ValueError, match=r"m\.xml' but this export is a folder; leave out \.xml"):
        getattr(export, name)(model, tmp_path / "m.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OPENERS)
def test_openers_refuse_numbers_of_threads(name, tmp_path):
    for threads in (0, -1, 1.5, "4", True):
        with pytest.raises(ValueError, match=f"num_threads is {threads!r}; it must be an integer"):
            getattr(export, name)(tmp_path, num_threads=threads)
    if name == "open_openvino":
        with pytest.raises(ValueError, match="precision is 'fp16'; choose one of 'float32'"):
            export.open_openvino(tmp_path, precision="fp16")


def test_export_and_check_refuse_values_of_the_wrong_kind(model, tmp_path):
    with pytest.raises(ValueError, match=r"format=\['onnx'\] is unknown; choose one of"):
        export.export_model(model, tmp_path / "m", format=["onnx"])
    with pytest.raises(ValueError, match=r"exports is one path, 'm\.onnx'; give a list of paths"):
        export.check_exports(model, "m.onnx", [])
    with pytest.raises(ValueError, match="image_size is 64; it must be two positive integers"):
        export.check_exports(model, ["m.onnx"], [], image_size=64)


def test_inside_a_strategy_the_remedy_is_named(tmp_path):
    tf = pytest.importorskip("tensorflow")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = tiny_pspnet()
        for name in ("saved_model", "tf_serving", "tflite"):
            path = tmp_path / f"m{EXPORTERS[name]}"
            with pytest.raises(RuntimeError, match=r"inside strategy\.scope\(\); export after the"):
                getattr(export, name)(model, path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    images = np.random.default_rng(0).integers(0, 256, (1, 48, 56, 3)).astype("uint8")
    export.saved_model(model, tmp_path / "m")
    classes = export.open_export(tmp_path / "m")(images)
    assert np.mean(classes == model.predict_classes(images, verbose=0)) > 0.999
