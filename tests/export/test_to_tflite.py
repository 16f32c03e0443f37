import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_pspnet

from keras_psp import export
from keras_psp.data import ImageFolder, Split
from keras_psp.export import to_tflite
from keras_psp.export.representative import representative_images
from keras_psp.export.task_metadata import task_metadata

interpreter = pytest.importorskip("ai_edge_litert.interpreter")

SIZE = (49, 57)


def network(num_classes=4, **arguments):
    return tiny_pspnet(num_classes, fusion_filters=16, **arguments)


@pytest.fixture(scope="module")
def model():
    return network(class_names=["sky", "a\nroad", "car", "tree"])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("uint8")


@pytest.fixture(scope="module")
def quantized(model, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "model.tflite"
    options = {"representative": images, "preset": "street", "license": "CC BY 4.0"}
    export.tflite(model, path, image_size=SIZE, precision="int8", **options)
    return path


def operations(path):
    plain = interpreter.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    types = {tensor["index"]: tensor["dtype"] for tensor in plain.get_tensor_details()}
    return [
        (op["op_name"], [types[out] for out in op["outputs"]]) for op in plain._get_ops_details()
    ]


def distance(logits, expected):
    return np.abs(logits - expected).max() / np.ptp(expected)


VARIANTS = {
    "as in semseg": {},
    "as in mmsegmentation": {"align_corners": False, "bin_sizes": (1, 3)},
    "Caffe's channels": {"channel_order": "bgr", "mean": (104, 117, 124), "std": (1, 2, 3)},
    "largest cells": {"pooling": "max"},
    "levels unreduced": {"reduction": None, "fusion_kernel_size": 1},
    "no pyramid": {"bin_sizes": ()},
}


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)
def test_fixed_size_has_the_logits_of_the_network(arguments, images, tmp_path):
    model = network(**arguments)
    export.tflite(model, tmp_path / "a.tflite", image_size=SIZE, output="logits")
    logits = export.open_tflite(tmp_path / "a.tflite")(images)
    expected = model.predict(images.astype("float32"), verbose=0)
    assert distance(logits, expected) < 1e-4
    assert np.mean(logits.argmax(-1) == expected.argmax(-1)) > 0.999


def test_winograd_has_the_logits_of_the_network_in_a_file_of_the_same_size(model, tmp_path):
    size = (257, 249)  # large enough for Winograd to pay
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype("uint8")
    expected, sizes = model.predict(image.astype("float32"), verbose=0), []
    # Of ResNet-18's convolutions, Winograd computes the 3x3 with 256 or more channels.
    for winograd, convolutions in ((False, 32), (True, 25)):
        path = tmp_path / f"{winograd}.tflite"
        export.tflite(model, path, image_size=size, output="logits", winograd=winograd)
        assert distance(export.open_tflite(path)(image), expected) < 1e-4
        names = [name for name, _ in operations(path)]
        assert names.count("CONV_2D") == convolutions
        runtime = interpreter.Interpreter(model_path=str(path))
        runtime.allocate_tensors()
        types = [op["op_name"] for op in runtime._get_ops_details()]
        assert types.count("DELEGATE") == 1  # XNNPACK runs all of it
        sizes.append(path.stat().st_size)
    assert sizes[1] < 1.05 * sizes[0]


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic_int8"])
def test_one_file_takes_any_size(precision, model, tmp_path):
    export.tflite(model, tmp_path / "a.tflite", precision=precision, output="logits")
    opened = export.open_tflite(tmp_path / "a.tflite")
    for size in ((49, 57), (64, 41)):
        images = np.random.default_rng(0).integers(0, 256, (1, *size, 3))
        expected = model.predict(images.astype("float32"), verbose=0)
        limit = {"float32": 1e-4, "float16": 5e-3, "dynamic_int8": 0.05}[precision]
        assert distance(opened(images), expected) < limit


def test_the_graph_itself_refuses_small_images(model, tmp_path):
    export.tflite(model, tmp_path / "a.tflite")
    for size in ((41, 64), (40, 64), (64, 40), (1, 1)):
        runner = interpreter.Interpreter(str(tmp_path / "a.tflite")).get_signature_runner()
        image = np.zeros((1, *size, 3), "uint8")
        if min(size) == 41:
            assert runner(image=image)["classes"].shape == (1, 41, 64)
        else:
            with pytest.raises(RuntimeError, match=r"\[2\] and \[3\], are not broadcastable"):
                runner(image=image)


MEDIAPIPE = """
import sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import vision
from mediapipe.tasks.python.core.base_options import BaseOptions
file = BaseOptions(model_asset_path=sys.argv[1])
options = vision.ImageSegmenterOptions(base_options=file, output_category_mask=True)
with vision.ImageSegmenter.create_from_options(options) as segmenter:
    for image, expected in zip(*np.load(sys.argv[2]).values()):
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
        result = segmenter.segment(image)
        assert np.mean(result.category_mask.numpy_view().squeeze() == expected) > 0.999
        total = sum(mask.numpy_view() for mask in result.confidence_masks)
        np.testing.assert_allclose(total, 1, atol=1e-4)
    print(segmenter.labels)
"""


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_mediapipe_reads_classes_and_labels(output, model, images, tmp_path):
    pytest.importorskip("mediapipe", reason="needs MediaPipe")
    export.tflite(model, tmp_path / "a.tflite", image_size=SIZE, output=output)
    expected = model.predict_classes(images.astype("float32"), verbose=0)
    np.savez(tmp_path / "images.npz", images=images, expected=expected)
    arguments = [tmp_path / "a.tflite", tmp_path / "images.npz"]
    run = subprocess.run(
        [sys.executable, "-c", MEDIAPIPE, *arguments], capture_output=True, text=True, timeout=120
    )
    assert "['sky', 'a road', 'car', 'tree']" in run.stdout, run.stderr


@pytest.mark.parametrize("input_dtype", ["uint8", "float32"])
@pytest.mark.parametrize("output", ["classes", "probabilities"])
def test_input_types_and_outputs(input_dtype, output, model, images, tmp_path):
    path = tmp_path / "a.tflite"
    export.tflite(model, path, image_size=SIZE, input_dtype=input_dtype, output=output)
    result = export.open_tflite(path)(images)
    logits = model.predict(images.astype("float32"), verbose=0).astype("float64")
    if output == "classes":
        assert result.dtype == "uint8" and np.mean(result == logits.argmax(-1)) > 0.999
    else:
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        np.testing.assert_allclose(result, powers / powers.sum(-1, keepdims=True), atol=1e-4)
    (image,) = interpreter.Interpreter(model_path=str(path)).get_input_details()
    assert image["dtype"] == np.dtype(input_dtype) and image["name"] == "image"


def test_int8_has_no_float_and_no_space_to_batch(quantized):
    names_and_types = operations(quantized)
    assert not [
        name for name, types in names_and_types if np.float32 in types or np.float16 in types
    ]
    assert not [name for name, _ in names_and_types if "BATCH" in name or "FLEX" in name.upper()]
    # Normalization, 1 in the stem, 16 in the blocks and 4 shortcuts, 4 levels twice, fusion and
    # classifier: dilated convolutions are single operations.
    assert [name for name, _ in names_and_types].count("CONV_2D") == 32


def test_int8_takes_uint8_pixels_unscaled(quantized, model, images):
    (image,) = interpreter.Interpreter(model_path=str(quantized)).get_input_details()
    assert image["dtype"] == np.uint8 and image["quantization"] == (1.0, 0)
    classes = export.open_tflite(quantized)(images)
    expected = model.predict(images.astype("float32"), verbose=0).argmax(-1)
    assert classes.dtype == "uint8" and np.mean(classes == expected) > 0.95


def test_xnnpack_runs_all_but_the_first_and_last_operations(quantized, model, tmp_path):
    export.tflite(model, tmp_path / "a.tflite", image_size=SIZE)
    for path, first in ((tmp_path / "a.tflite", "CAST"), (quantized, "QUANTIZE")):
        runtime = interpreter.Interpreter(model_path=str(path))
        runtime.allocate_tensors()
        details = runtime._get_ops_details()
        (part,) = [op for op in details if op["op_name"] == "DELEGATE"]
        (argmax,) = [op for op in details if op["op_name"] == "ARG_MAX"]
        # Everything between the first operation and ARG_MAX, which CAST follows.
        assert details[0]["op_name"] == first and details[0]["outputs"][0] in part["inputs"]
        assert part["outputs"].tolist() == argmax["inputs"][:1].tolist()
        assert details[-2]["op_name"] == "CAST" and details[-3] == argmax


def test_metadata_is_in_the_archive_and_in_the_flatbuffer(quantized):
    about = export.tflite_metadata(quantized)
    assert (about["preset"], about["license"], about["num_classes"]) == ("street", "CC BY 4.0", 4)
    assert about["class_names"][1] == "a\nroad" and len(about["palette"]) == 4
    with zipfile.ZipFile(quantized) as archive:
        assert archive.read("labels.txt").decode() == "sky\na road\ncar\ntree\n"
    from tensorflow.lite.tools import flatbuffer_utils

    file = flatbuffer_utils.read_model(str(quantized))
    entries = {
        entry.name.decode(): bytes(file.buffers[entry.buffer].data) for entry in file.metadata
    }
    assert b'"preset": "street"' in entries["keras_psp.json"]
    assert entries["TFLITE_METADATA"] == task_metadata(about)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    with pytest.raises(ValueError, match=r"contains no keras_psp.json; only files written by"):
        export.tflite_metadata(tmp_path / "a.tflite")
    with pytest.raises(ValueError, match=r"a.tflite can't be opened by LiteRT .* is damaged"):
        export.open_tflite(tmp_path / "a.tflite")
    with pytest.raises(FileNotFoundError, match=r"b.tflite: there is no such file"):
        export.open_tflite(tmp_path / "b.tflite")


def test_the_interpreter_of_tensorflow_runs_it_without_a_warning(quantized, monkeypatch):
    import warnings

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)  # isn't installed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict = export.open_tflite(quantized)
    assert predict(np.zeros((1, *SIZE, 3), np.uint8)).shape == (1, *SIZE)


def test_the_runtime_alone_runs_it(quantized):
    program = f"""
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path={str(quantized)!r}).get_signature_runner()
classes = runner(image=np.zeros((1, *{SIZE}, 3), np.uint8))["classes"]
assert classes.shape == (1, *{SIZE}) and classes.dtype == np.uint8
assert not {{"tensorflow", "keras", "keras_psp"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_many_classes_are_uint16(images, tmp_path):
    model = network(300)
    for precision, representative in (("float32", None), ("int8", images)):
        path = tmp_path / f"{precision}.tflite"
        export.tflite(
            model, path, image_size=SIZE, precision=precision, representative=representative
        )
        assert export.open_tflite(path)(images).dtype == "uint16"


def test_mixed_precision_is_exported_in_float32(model, images, tmp_path):
    half = network(dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    export.tflite(half, tmp_path / "half.tflite", image_size=SIZE, output="logits")
    expected = model.predict(images.astype("float32"), verbose=0)
    assert distance(export.open_tflite(tmp_path / "half.tflite")(images), expected) < 1e-4


def test_representative_images_of_all_kinds(images, tmp_path):
    for folder, array in (("images", images[0]), ("labels", images[0, ..., 0] % 4)):
        (tmp_path / "train" / folder).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / "train" / folder / "a.png")
    path = tmp_path / "train" / "images" / "a.png"
    split = Split(ImageFolder(tmp_path, class_names=list("abcd")), "train")
    for images_or_paths in ([path], [str(path)], images[:1], iter(images[:1].astype("float32"))):
        (image,) = representative_images(images_or_paths, SIZE)
        np.testing.assert_array_equal(image, images[0])
    (image,) = representative_images(split, SIZE)
    np.testing.assert_array_equal(image, images[0])
    # 100 of 1000 images, from the first to the last.
    many = np.arange(1000).repeat(3 * 4).reshape(1000, 2, 2, 3) % 251
    chosen = representative_images(many.astype("uint8"), (2, 2))
    assert len(chosen) == 100 and chosen[-1][0, 0, 0] == 999 % 251


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"precision": "int4"}, "precision is 'int4'; choose one of 'float32'"),
        ({"precision": "int8"}, "measures ranges on images; give representative="),
        ({"precision": "int8", "representative": []}, "representative contains no images; give"),
        ({"precision": "int8", "representative": "a.png"}, "is one str; give several images"),
        ({"precision": "int8", "representative": np.zeros((4, 5, 3))}, "is one ndarray; give"),
        ({"precision": "int8", "representative": 100}, r"is a int; give its images, e\.g\. data"),
        (
            {"precision": "int8", "representative": [np.zeros((4, 5, 2))]},
            r"representative image 0: the array has shape \(4, 5, 2\)",
        ),
        (
            {"precision": "int8", "image_size": None, "representative": []},
            "image_size=None would leave float operations",
        ),
        ({"representative": []}, "for precision='int8' but this is 'float32'; leave it out"),
        ({"image_size": 64}, "image_size is 64; it must be two positive integers"),
        ({"image_size": (24, 24)}, "images of 24x24 give a feature map smaller"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.tflite(model, tmp_path / "a.tflite", **{"image_size": SIZE, **arguments})
    assert not list(tmp_path.iterdir())


def test_images_of_another_size_are_refused(quantized):
    with pytest.raises(ValueError, match="are 56x64 but this file was exported for 49x57"):
        export.open_tflite(quantized)(np.zeros((1, 56, 64, 3)))


def test_a_file_that_does_not_run_is_not_written(model, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("Encountered unresolved custom op: FlexBitcast.")

    (tmp_path / "a.tflite").write_text("the old one")
    monkeypatch.setattr(to_tflite, "open_tflite", lambda *_, **__: broken)
    with pytest.raises(RuntimeError, match=r"doesn't run \(Encountered .*; nothing was written"):
        export.tflite(model, tmp_path / "a.tflite", image_size=SIZE)
    assert (tmp_path / "a.tflite").read_text() == "the old one"


def test_a_network_with_nan_is_refused(tmp_path):
    model = network()
    classifier = model.get_layer("classifier")
    classifier.bias.assign(np.full(4, np.nan, "float32"))
    with pytest.raises(ValueError, match="contains NaN or infinite values; export the weights"):
        export.tflite(model, tmp_path / "a.tflite", image_size=SIZE, output="logits")


def test_threads_take_turns(images, model, tmp_path):
    export.tflite(model, tmp_path / "model.tflite", image_size=SIZE, output="logits")
    predict = export.open_tflite(tmp_path / "model.tflite")
    expected = [predict(image[None]) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for number, logits in enumerate(pool.map(predict, [image[None] for image in images] * 20)):
            np.testing.assert_array_equal(logits, expected[number % 2])


@pytest.mark.parametrize("size", [SIZE, None])
def test_logits_are_divided_by_the_temperature(size, images, tmp_path):
    model = network(temperature=3.0)
    export.tflite(model, tmp_path / "a.tflite", image_size=size, output="logits", progress=False)
    logits = export.open_tflite(tmp_path / "a.tflite")(images)
    expected = model.predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.ptp(expected))
