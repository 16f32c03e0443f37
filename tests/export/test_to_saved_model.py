import io
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import c_session, hostile_payloads, odd_images
from support.networks import tiny_pspnet

from keras_psp import PSPNet, export
from keras_psp.data.images import read_image
from keras_psp.export import image_bytes
from keras_psp.export.graph import Signature

# All operations of an export; the server has every operation of TensorFlow.
OPERATIONS = """
Abs AddV2 All ArgMax AsString Assert AssignVariableOp BatchMatMulV2 BatchToSpaceND BiasAdd Bitcast
BitwiseAnd Cast ConcatV2 Const Conv2D Conv2DBackpropFilter Conv2DBackpropInput DecodeJpeg DecodePng
DecodeRaw DisableCopyOnRead EncodePng Equal ExpandDims ExtractJpegShape Fill FloorDiv FloorMod
GatherV2 Greater GreaterEqual Identity IdentityN If LeftShift Less LessEqual LogicalAnd LogicalOr
MatMul MaxPool Maximum MergeV2Checkpoints Minimum Mul NoOp Pack Pad Placeholder Prod Range
ReadVariableOp RealDiv Relu Reshape ResizeArea RestoreV2 Round SaveV2 ScaleAndTranslate Select
SelectV2 Shape ShapeN ShardedFilename Slice Softmax SpaceToBatchND SplitV Squeeze
StatefulPartitionedCall StatelessIf StatelessWhile StaticRegexFullMatch StridedSlice StringFormat
StringJoin StringLength Sub Substr Sum TensorListFromTensor TensorListGetItem TensorListReserve
TensorListSetItem TensorListStack Transpose Unpack VarHandleOp While
"""


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "saved"
    export.saved_model(model, path)
    return path


@pytest.fixture(scope="module")
def session(folder):
    with c_session.CSession(folder) as opened:
        yield opened


def images(*size):
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("float32")


def bytes_signature(path):
    import tensorflow as tf

    module = tf.saved_model.load(str(path))

    def segment(*contents):
        assert module is not None
        images = tf.constant(list(contents), "string")
        output = module.signatures["serve_bytes"](image_bytes=images)
        pngs = output["classes_png_bytes"].numpy()
        return [np.array(Image.open(io.BytesIO(png))) for png in pngs]

    return segment


@pytest.mark.slow
def test_saved_model_takes_any_size(model, tmp_path):
    export.saved_model(model, tmp_path / "saved", output="logits")
    opened = export.open_saved_model(tmp_path / "saved")
    for size in ((49, 57), (64, 41)):
        expected = model.predict(images(*size), verbose=0)
        np.testing.assert_allclose(opened(images(*size)), expected, atol=1e-4 * np.ptp(expected))
    with pytest.raises(ValueError, match=r"images have shape \(49, 57, 3\); give RGB batches"):
        opened(images(49, 57)[0])
    # A second export replaces the first and leaves nothing else behind.
    export.saved_model(model, tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("batch_size", [1, None])
def test_winograd_has_the_logits_of_the_network(model, tmp_path, batch_size):
    from tensorflow.python.framework import test_util

    size = (257, 249)  # large enough for Winograd to pay
    expected, convolutions, sizes = model.predict(images(*size), verbose=0), [], []
    options = {"image_size": size, "batch_size": batch_size, "output": "logits"}
    for winograd in (False, True):
        path = tmp_path / str(winograd)
        export.saved_model(model, path, winograd=winograd, **options)
        run = export.open_saved_model(path)
        count = batch_size or len(expected)
        logits = run(images(*size)[:count])
        np.testing.assert_allclose(logits, expected[:count], atol=1e-4 * np.ptp(expected))
        convolutions.append([node.op for node in nodes_of(path)].count("Conv2D"))
        sizes.append(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
    # Of ResNet-18's convolutions, Winograd computes 7, in both signatures; without oneDNN, the file
    # has twice as many nodes for them.
    assert convolutions[0] - convolutions[1] == (2 if test_util.IsMklEnabled() else 4) * 7
    assert sizes[1] < 1.2 * sizes[0]


def test_saved_models_replace_only_saved_models(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"contains other files, e.g. notes\.txt; give a new"):
        export.saved_model(model, tmp_path)
    with pytest.raises(ValueError, match="is a file but this export is a folder"):
        export.saved_model(model, tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="max_pixels is 0; it must be an integer >= 1"):
        export.saved_model(model, tmp_path / "a", max_pixels=0)
    with pytest.raises(ValueError, match="use images of at least 41 pixels per side"):
        export.saved_model(model, tmp_path / "a", image_size=(40, 41))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_error_on_other_backends_names_tensorflow(model, tmp_path, monkeypatch):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="Keras runs on jax; save the model as"):
        export.saved_model(model, tmp_path / "saved")


def test_class_maps_of_bytes_have_the_sizes_of_their_images(model, folder):
    segment = bytes_signature(folder)
    first, second = hostile_payloads.noise(57, 61), hostile_payloads.noise(49, 80)
    contents = [hostile_payloads.encoded(first, "PNG"), hostile_payloads.encoded(second, "JPEG")]
    second = read_image(contents[1])  # JPEG loses
    for classes, image in zip(segment(*contents), (first, second), strict=True):
        expected = model.predict_classes(image[None], verbose=0)[0]
        assert classes.dtype == np.uint8 and classes.shape == image.shape[:2]
        assert np.mean(classes == expected) > 0.999
    assert segment() == []


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_serve_bytes_returns_class_maps_for_every_output(model, tmp_path, output):
    export.saved_model(model, tmp_path / "saved", image_size=(48, 64), batch_size=2, output=output)
    segment = bytes_signature(tmp_path / "saved")
    small, wide = hostile_payloads.noise(5, 3), hostile_payloads.noise(200, 50)
    class_maps = segment(
        hostile_payloads.encoded(small, "PNG"), hostile_payloads.encoded(wide, "PNG")
    )
    assert [classes.shape for classes in class_maps] == [(3, 5), (50, 200)]
    fitting = hostile_payloads.noise(64, 48)
    (classes,) = segment(hostile_payloads.encoded(fitting, "PNG"))
    assert np.mean(classes == model.predict_classes(fitting[None], verbose=0)[0]) > 0.999
    # Both signatures share the same variables: 4 bytes per weight.
    weights = sum(np.prod(v.shape) for v in model.weights if "auxiliary_head" not in v.path)
    (data,) = (tmp_path / "saved" / "variables").glob("variables.data*")
    assert data.stat().st_size < 4.1 * weights


def test_class_maps_with_more_than_256_classes_have_16_bits():
    import tensorflow as tf

    def network(image, output, size):
        return {"classes": 2 * tf.cast(image[..., 0], "int32")}

    model = types.SimpleNamespace(num_classes=512, bin_sizes=(1,), backbone=None)
    serve = image_bytes.bytes_function(model, network, Signature())
    image = hostile_payloads.noise(5, 3)
    content = tf.constant([hostile_payloads.encoded(image, "PNG")])
    (png,) = serve(content)["classes_png_bytes"].numpy()
    classes = np.array(Image.open(io.BytesIO(png)))
    assert classes.max() > 255
    np.testing.assert_array_equal(classes, 2 * image[..., 0].astype(int))


ENCODED = [
    case
    for case in odd_images.CASES
    if case.colors
    and case.file.endswith((".jpg", ".png"))
    and "exif_" not in case.file
    # TensorFlow ignores color profiles.
    and case.file != "cmyk_profile.jpg"
]


@pytest.mark.parametrize("case", ENCODED, ids=lambda case: case.file)
def test_bytes_are_decoded_as_files_are(case, tmp_path):
    path = odd_images.written(case, tmp_path)
    content = path.read_bytes()
    jpeg = content.startswith(b"\xff\xd8")
    decode = image_bytes.jpeg_pixels if jpeg else image_bytes.png_pixels
    np.testing.assert_allclose(decode(content).numpy().astype(int), read_image(path), atol=1)


def nodes_of(folder):
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = parsed.meta_graphs[0].graph_def
    return [*graph.node, *(node for f in graph.library.function for node in f.node_def)]


def test_graph_has_only_known_operations(folder, model, tmp_path):
    export.saved_model(model, tmp_path / "saved", image_size=(257, 249))  # with Winograd
    for path in (folder, tmp_path / "saved"):
        assert {node.op for node in nodes_of(path)} - set(OPERATIONS.split()) == set()


def test_saved_model_cli_lists_both_signatures(folder):
    command = [str(Path(sys.executable).with_name("saved_model_cli")), "show", "--all"]
    if not Path(command[0]).exists():
        pytest.skip("saved_model_cli isn't next to this Python")
    shown = subprocess.run(
        [*command, "--dir", str(folder)], capture_output=True, text=True, check=True
    ).stdout
    for part in ("signature_def['serving_default']", "signature_def['serve_bytes']"):
        assert part in shown
    for part in ("inputs['image_bytes'] tensor_info:\n        dtype: DT_STRING", "(-1, -1, -1, 3)"):
        assert part in shown
    assert "outputs['classes_png_bytes'] tensor_info:\n        dtype: DT_STRING" in shown


def test_c_loads_and_runs_it_without_python(model, session):
    assert session.loaded == {"modules": []}
    image = hostile_payloads.noise()
    expected = model.predict_classes(image[None], verbose=0)
    assert np.mean(session("serving_default", image[None]) == expected) > 0.999
    (png,) = session("serve_bytes", [hostile_payloads.encoded(image, "PNG")])
    assert np.mean(np.array(Image.open(io.BytesIO(png))) == expected[0]) > 0.999


def test_c_loader_reports_a_missing_model(tmp_path):
    with pytest.raises(RuntimeError, match="Could not find SavedModel"):
        c_session.CSession(tmp_path)


@pytest.mark.parametrize("payload", hostile_payloads.payloads(), ids=lambda payload: payload.what)
def test_hostile_bytes_are_an_error_and_the_next_image_is_segmented(session, payload):
    good = hostile_payloads.encoded(hostile_payloads.noise(), "PNG")
    with pytest.raises(RuntimeError) as error:
        session("serve_bytes", [good, payload.content])
    assert payload.refused in str(error.value)
    assert len(session("serve_bytes", [good])) == 1


@pytest.mark.parametrize(
    ("shape", "refused"),
    [
        ((0, 50, 50, 3), "image is [0 50 50 3] without any image"),
        ((1, 20, 50, 3), "image is 50x20 pixels; send at least 41 per side"),
        ((1, 0, 0, 3), "image is 0x0 pixels; send at least 41 per side"),
        ((1, 41, 16385, 3), "image is 16385x41 pixels; send at most 16,384 per side"),
        ((1, 50, 50, 6), "Incompatible shapes"),
        ((50, 50, 3), "shape"),
    ],
)
def test_unsupported_images_are_an_error(session, shape, refused):
    with pytest.raises(RuntimeError) as error:
        session("serving_default", np.zeros(shape, "uint8"))
    assert refused in str(error.value)
    assert session("serving_default", np.zeros((1, 41, 41, 3), "uint8")).shape == (1, 41, 41)


def test_metadata_contains_the_limits(folder):
    about = json.loads((folder / "assets.extra" / "keras_psp.json").read_text("utf-8"))
    assert about["serve_bytes"]["max_pixels"] == image_bytes.MAX_PIXELS == 2**24


def test_probabilities_have_the_temperature(tmp_path):
    model = tiny_pspnet(temperature=3.0, activation="softmax")
    export.saved_model(model, tmp_path / "saved", output="probabilities")
    probabilities = export.open_saved_model(tmp_path / "saved")(images(49, 57))
    expected = model.predict(images(49, 57), verbose=0)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_networks_of_images_of_0_to_1_take_floats_and_no_files(tmp_path):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = tiny_pspnet(mean=mean, std=std)
    with pytest.raises(
        ValueError, match=r"are those of images of 0\.\.1; give input_dtype='float32'"
    ):
        export.saved_model(model, tmp_path / "saved")
    with pytest.raises(ValueError, match=r"takes images of 0\.\.1, but TensorFlow Serving's"):
        export.tf_serving(model, tmp_path / "served")
    export.saved_model(model, tmp_path / "saved", input_dtype="float32", output="logits")
    about = json.loads((tmp_path / "saved" / "assets.extra" / "keras_psp.json").read_text("utf-8"))
    assert about["input"]["meaning"].startswith("RGB, 0 to 1;") and "serve_bytes" not in about
    # The remedy that the error names.
    same = PSPNet(weights=model, mean=[255 * m for m in mean], std=[255 * s for s in std])
    export.saved_model(same, tmp_path / "same", output="logits")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 49, 57, 3), "uint8")
    np.testing.assert_allclose(
        export.open_saved_model(tmp_path / "same")(pixels),
        export.open_saved_model(tmp_path / "saved")(pixels.astype("float32") / 255),
        atol=1e-4,
    )
