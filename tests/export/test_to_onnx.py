import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import DilatedResNet, PSPNet, export
from keras_psp.layers.folding import foldable_layers
from keras_psp.models.checks import smallest_side

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

NAMES = ("sky", "boat", "river", "car")


def network(**options):
    backbone = options.pop("backbone", None) or tiny_backbone()
    model = tiny_pspnet(backbone=backbone, class_names=NAMES, **options)
    rng = np.random.default_rng(0)
    for layer in foldable_layers(model):
        if layer.norm is not None:  # statistics like those of a trained network
            shapes = [w.shape for w in layer.norm.get_weights()]
            layer.norm.set_weights([rng.uniform(0.5, 1.5, shape) for shape in shapes])
    return model


@pytest.fixture(scope="module")
def model():
    return network()


def images(*size, count=2):
    return np.random.default_rng(1).integers(0, 256, (count, *size, 3)).astype("uint8")


def assert_close(logits, model, batch):
    expected = model.predict(batch.astype("float32"), verbose=0)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.ptp(expected))


def test_one_file_takes_any_size(model, tmp_path):
    export.onnx(model, tmp_path / "m.onnx", output="logits", progress=False)
    opened = export.open_onnx(tmp_path / "m.onnx")
    for size in ((41, 41), (49, 57), (64, 101)):
        assert_close(opened(images(*size)), model, images(*size))
    with pytest.raises(ValueError, match=r"images have shape \(49, 57, 3\); give RGB batches"):
        opened(images(49, 57)[0])
    with pytest.raises(ValueError, match="are 16x50 but this network needs at least 41"):
        opened(images(16, 50))


@pytest.mark.parametrize("options", [{}, {"image_size": (49, 57)}, {"output": "probabilities"}])
def test_the_graph_is_valid_and_computes_with_uint8_as_tensorrt_does(model, tmp_path, options):
    export.onnx(model, tmp_path / "m.onnx", progress=False, **options)
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 8 and [(o.domain, o.version) for o in proto.opset_import] == [
        ("", 17)
    ]
    assert_uint8_meets_floats_in_casts_only(proto)


def assert_uint8_meets_floats_in_casts_only(proto):
    """TensorRT's rule: NvInferRuntimeBase.h, DataType.kUINT8."""
    (image,), (output,) = proto.graph.input, proto.graph.output
    assert image.name == "image" and output.name in ("classes", "probabilities")
    for value in (image, output):
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert dims[:3] in (["batch", "height", "width"], ["batch", 49, 57], ["batch", 97, 113])
    made = {name: node for node in proto.graph.node for name in node.output}
    assert [node.op_type for node in proto.graph.node if "image" in node.input] == ["Cast"]
    if output.name == "classes":
        last = made["classes"]
        before = made[last.input[0]]
        assert (last.op_type, last.attribute[0].i) == ("Cast", onnx.TensorProto.UINT8)
        assert (before.op_type, before.attribute[0].i) == ("Cast", onnx.TensorProto.FLOAT)


def assert_small_images_are_refused(path, smallest):
    """By the runtime itself, as in programs without keras_psp."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options)

    def run(height, width):
        return session.run(None, {"image": np.zeros((1, height, width, 3), "uint8")})[0]

    least = smallest
    assert run(least, least + 9).shape[:3] == (1, least, least + 9)
    for size in ((1, 1), (least - 1, least), (least, least - 1)):
        with pytest.raises(Exception, match=f"image_needs_{least}_pixels_per_side"):
            run(*size)


@pytest.mark.parametrize(("stride", "smallest"), [(8, 41), (16, 81)])
def test_the_graph_itself_refuses_small_images(tmp_path, stride, smallest):
    model = tiny_pspnet(backbone=tiny_backbone(output_stride=stride))
    export.onnx(model, tmp_path / "m.onnx", progress=False)
    assert_small_images_are_refused(tmp_path / "m.onnx", smallest)


@pytest.mark.parametrize("winograd", [False, True])
def test_fixed_size_with_and_without_winograd(model, tmp_path, winograd):
    size = (257, 249)  # large enough for Winograd to pay
    options = {"image_size": size, "winograd": winograd, "progress": False}
    export.onnx(model, tmp_path / "m.onnx", output="logits", **options)
    assert_close(export.open_onnx(tmp_path / "m.onnx")(images(*size)), model, images(*size))
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    dilated = [
        node
        for node in nodes
        if node.op_type == "Conv"
        and any(a.name == "dilations" and max(a.ints) > 1 for a in node.attribute)
    ]
    # Winograd computes those of 256 and more channels.
    assert len(dilated) == (1 if winograd else 8)
    assert "BatchNormalization" not in {node.op_type for node in nodes}
    with pytest.raises(ValueError, match="are 56x64 but this file was exported for 257x249"):
        export.open_onnx(tmp_path / "m.onnx")(images(56, 64))


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_levels_are_pooled_from_the_finest_one_where_they_nest(tmp_path, pooling):
    model, size = tiny_pspnet(pooling=pooling), (96, 48)  # maps of 12x6
    options = {"image_size": size, "output": "logits", "progress": False}
    export.onnx(model, tmp_path / "m.onnx", **options)
    assert_close(export.open_onnx(tmp_path / "m.onnx")(images(*size)), model, images(*size))
    pools = [n for n in onnx.load(tmp_path / "m.onnx").graph.node if n.op_type.endswith("Pool")]
    cells = [a.ints for node in pools for a in node.attribute if a.name == "kernel_shape"]
    # After the stem's: 2x1 pixels of the map for 6x6 cells; then all, 3x3 and 2x2 of these.
    assert [list(cell) for cell in cells[1:]] == [[2, 1], [6, 6], [3, 3], [2, 2]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"align_corners": False},
        {"bin_sizes": ()},
        {"bin_sizes": (2, 5), "fusion_kernel_size": 1},
        {"reduction": None, "classifier_kernel_size": 3},
        {"pooling": "max", "normalize_global": False},
        {"channel_order": "bgr", "mean": (104.0, 117.0, 123.0), "std": (1.0, 1.0, 1.0)},
        {"backbone": DilatedResNet(50, stem_filters=(8, 8, 8), output_stride=16)},
        {"backbone": tiny_backbone(dilations=(1, 1, 2, 4), output_stride=32)},
        {"backbone": tiny_backbone(num_stages=2)},
    ],
    ids=str,
)
def test_every_kind_of_network_has_the_same_logits(options, tmp_path):
    model = network(**options)
    side = 8 * getattr(model.backbone, "output_stride", 8) + 1
    size = (side, side + 12)
    sizes = (size,) if options.get("pooling") == "max" else (size, None)
    for image_size in sizes:
        path = tmp_path / "m.onnx"
        export.onnx(model, path, image_size=image_size, output="logits", progress=False)
        assert_close(export.open_onnx(path)(images(*size)), model, images(*size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (97, 113)])
def test_a_backbone_of_keras_applications_is_traced(size, tmp_path):
    pytest.importorskip("tf2onnx", reason="needs the extra onnx")
    full = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=0.35)
    mobile = keras.Model(full.input, full.get_layer("block_7_add").output)
    half = [127.5] * 3
    model = PSPNet(4, backbone=mobile, class_names=NAMES, mean=half, std=half)
    batch = images(97, 113)
    for output in ("logits", "classes"):
        path = tmp_path / f"{output}.onnx"
        export.onnx(model, path, image_size=size, output=output, progress=False)
    logits = export.open_onnx(tmp_path / "logits.onnx")(batch)
    expected = model.predict(batch.astype("float32"), verbose=0)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.ptp(expected))
    proto = onnx.load(tmp_path / "classes.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert_uint8_meets_floats_in_casts_only(proto)
    if size is None:
        assert_small_images_are_refused(tmp_path / "classes.onnx", smallest_side(model))
    assert [result.name for result in proto.graph.output] == ["classes"]
    assert json.loads(proto.metadata_props[0].value)["class_names"] == list(NAMES)
    classes = export.open_onnx(tmp_path / "classes.onnx")(batch)
    assert classes.dtype == np.uint8 and np.mean(classes == expected.argmax(-1)) > 0.999


def test_a_failed_simplification_of_the_graph_is_not_logged(tmp_path, caplog):
    pytest.importorskip("tf2onnx", reason="needs the extra onnx")
    image = x = keras.Input((None, None, 3))
    for _ in range(3):  # as in MobileNetV3
        x = keras.layers.ReLU(6.0)(keras.layers.Conv2D(4, 3, 2, "same")(x) + 3.0)
    half = [127.5] * 3
    model = PSPNet(4, backbone=keras.Model(image, x), bin_sizes=(1, 2), mean=half, std=half)
    export.onnx(model, tmp_path / "m.onnx", image_size=(65, 65), progress=False)
    assert "Failed to apply" not in caplog.text


def test_outputs_input_types_and_batch_sizes(model, tmp_path):
    batch = images(49, 57)
    logits = model.predict(batch.astype("float32"), verbose=0)
    export.onnx(model, tmp_path / "c.onnx", input_dtype="float32", batch_size=1, progress=False)
    classes = export.open_onnx(tmp_path / "c.onnx")(batch)
    assert classes.dtype == np.uint8 and np.mean(classes == logits.argmax(-1)) > 0.999
    export.onnx(model, tmp_path / "p.onnx", output="probabilities", progress=False)
    probabilities = export.open_onnx(tmp_path / "p.onnx")(batch)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert np.mean(probabilities.argmax(-1) == logits.argmax(-1)) > 0.999
    export.onnx(model, tmp_path / "b.onnx", batch_size=2, progress=False)
    assert export.open_onnx(tmp_path / "b.onnx")(images(49, 57, count=4)).shape == (4, 49, 57)
    with pytest.raises(ValueError, match="3 images but this file was exported for batches of 2"):
        export.open_onnx(tmp_path / "b.onnx")(images(49, 57, count=3))


def test_metadata_is_in_the_file(model, tmp_path):
    export.onnx(model, tmp_path / "m.onnx", license="MIT", preset="mine", progress=False)
    (entry,) = onnx.load(tmp_path / "m.onnx").metadata_props
    about = json.loads(entry.value)
    assert entry.key == "keras_psp" and about["class_names"] == list(NAMES)
    assert len(about["palette"]) == 4 and (about["license"], about["preset"]) == ("MIT", "mine")
    assert about["output"] == {**about["output"], "name": "classes", "dtype": "uint8"}


def test_int8_is_small_and_accurate(model, tmp_path):
    batch = images(65, 81, count=3)
    options = {"image_size": (65, 81), "progress": False}
    export.onnx(model, tmp_path / "f.onnx", **options)
    int8 = {"precision": "int8", "representative": batch, **options}
    export.onnx(model, tmp_path / "b.onnx", batch_size=2, **int8)
    assert export.open_onnx(tmp_path / "b.onnx")(batch[:2]).shape == (2, 65, 81)
    export.onnx(model, tmp_path / "q.onnx", **int8)
    assert (tmp_path / "q.onnx").stat().st_size < 0.35 * (tmp_path / "f.onnx").stat().st_size
    expected = model.predict_classes(batch.astype("float32"), verbose=0)
    for name, reduce_range in (("q.onnx", False), ("r.onnx", True)):
        export.onnx(model, tmp_path / name, reduce_range=reduce_range, **int8)
        assert np.mean(export.open_onnx(tmp_path / name)(batch) == expected) > 0.9
        weights = [
            np.abs(onnx.numpy_helper.to_array(constant).astype(int)).max()
            for constant in onnx.load(tmp_path / name).graph.initializer
            if constant.data_type == onnx.TensorProto.INT8 and len(constant.dims) == 4
        ]
        # Two products of 255 * 64 fit in 16 bits, in which AVX2 adds them.
        assert max(weights) == (64 if reduce_range else 127)


def test_half_precision_is_exported_in_float32(model, tmp_path):
    half = PSPNet(weights=model, dtype="mixed_bfloat16")
    export.onnx(half, tmp_path / "m.onnx", output="logits", progress=False)
    assert_close(export.open_onnx(tmp_path / "m.onnx")(images(49, 57)), model, images(49, 57))


def test_bad_arguments_and_files_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="precision is 'int4'; choose one of 'float32'"):
        export.onnx(model, tmp_path / "m.onnx", precision="int4")
    with pytest.raises(ValueError, match="give representative=, about 100 images"):
        export.onnx(model, tmp_path / "m.onnx", precision="int8", image_size=(65, 65))
    with pytest.raises(ValueError, match="images of 17x65 give a feature map smaller"):
        export.onnx(model, tmp_path / "m.onnx", image_size=(17, 65))
    with pytest.raises(ValueError, match=r"best\.keras'; the name must end in \.onnx"):
        export.onnx(model, tmp_path / "best.keras")
    with pytest.raises(TypeError, match=r"model is a Functional; give a keras_psp\.PSPNet"):
        export.onnx(keras.applications.MobileNetV2(weights=None), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="exported at one size only"):
        export.onnx(network(pooling="max"), tmp_path / "m.onnx")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        export.open_onnx(tmp_path / "m.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="can't be opened by ONNX Runtime"):
        export.open_onnx(tmp_path / "broken.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


def test_weights_with_nan_are_refused(tmp_path):
    model = network()
    weights = model.get_weights()
    weights[0][:] = np.nan
    model.set_weights(weights)
    with pytest.raises(ValueError, match="contains NaN or infinite values; export the weights"):
        export.onnx(model, tmp_path / "m.onnx", output="logits", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_export_without_tensorflow(backend, tmp_path):
    pytest.importorskip(backend)
    program = f"""
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
import keras, numpy as np
from keras_psp import DilatedResNet, PSPNet, export
model = PSPNet(4, backbone=DilatedResNet(18, stem_filters=(8,)))
export.onnx(model, {str(tmp_path / "m.onnx")!r}, output="logits", progress=False)
images = np.random.default_rng(0).integers(0, 256, (1, 49, 57, 3)).astype("uint8")
expected = keras.ops.convert_to_numpy(model(images))
logits = export.open_export({str(tmp_path / "m.onnx")!r})(images)
np.testing.assert_allclose(logits, expected, atol=2e-5 * np.ptp(expected))
"""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [(49, 57), None])
def test_logits_are_divided_by_the_temperature(tmp_path, size):
    model = network(temperature=3.0)
    options = {"image_size": size, "output": "logits", "progress": False}
    export.onnx(model, tmp_path / "m.onnx", **options)
    opened = export.open_onnx(tmp_path / "m.onnx")
    assert_close(opened(images(49, 57)), model, images(49, 57))
    about = onnx.load(tmp_path / "m.onnx").metadata_props[0].value
    assert json.loads(about)["output"]["temperature"] == 3
