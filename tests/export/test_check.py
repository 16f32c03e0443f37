import io

import keras
import numpy as np
import pytest
import rich.console
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import MeanIoU, PSPNet, export

pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tiny_pspnet(3, backbone=tiny_backbone(), bin_sizes=(1, 2))


def pairs(count, *size):
    rng = np.random.default_rng(0)
    for _ in range(count):
        mask = rng.integers(0, 4, size).astype("uint8")
        mask[mask == 3] = 255
        yield rng.integers(0, 256, (*size, 3)).astype("uint8"), mask


def test_results_match_the_metric_of_the_network(model, tmp_path):
    export.onnx(model, tmp_path / "m.onnx", progress=False)
    export.saved_model(model, tmp_path / "m", output="logits")
    examples = list(pairs(3, 24, 33))
    results = export.check_exports(
        model, [tmp_path / "m.onnx", tmp_path / "m"], examples, progress=False
    )
    metric = MeanIoU(3)
    model.compile(metrics=[metric])
    images, masks = (np.stack(part) for part in zip(*examples, strict=True))
    model.evaluate(images.astype("float32"), masks, verbose=0)
    assert results.images == 3
    paths = [str(tmp_path / "m.onnx"), str(tmp_path / "m")]
    assert [row.name for row in results] == ["network", *paths]
    assert results[0].mean_iou == pytest.approx(float(metric.result()), abs=1e-6)
    assert results[0].agreement == 1 and results[0].size is None
    for row in results[1:]:
        assert row.agreement > 0.999
        assert row.mean_iou == pytest.approx(results[0].mean_iou, abs=1e-3)
        assert row.size > 1e6 and row.milliseconds > 0


def test_an_export_of_other_weights_has_low_agreement(model, tmp_path, monkeypatch):
    other = PSPNet(weights=model)
    *rest, kernel, bias = other.get_layer("classifier").get_weights()
    other.get_layer("classifier").set_weights([*rest, -kernel, bias])
    export.onnx(other, tmp_path / "m.onnx", progress=False)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    results = export.check_exports(model, ["~/m.onnx"], list(pairs(2, 24, 33)))
    assert results[1].agreement < 0.7
    assert results[1].size == (tmp_path / "m.onnx").stat().st_size
    file = io.StringIO()
    results.print(console=rich.console.Console(file=file, width=200))
    printed = file.getvalue()
    assert "m.onnx" in printed and f"{100 * results[1].agreement:.3f} %" in printed


def test_images_are_resized_to_one_size(model, tmp_path):
    export.onnx(model, tmp_path / "m.onnx", image_size=(24, 32), progress=False)
    examples = [*pairs(1, 48, 64), *pairs(1, 30, 30)]
    results = export.check_exports(model, [tmp_path / "m.onnx"], examples, image_size=(24, 32))
    assert results[1].agreement > 0.999
    with pytest.raises(ValueError, match="are 48x64 but this file was exported for 24x32"):
        export.check_exports(model, [tmp_path / "m.onnx"], examples, progress=False)


def test_images_of_0_to_1_are_not_rounded(model, tmp_path):
    mean, std = (
        [value / 255 for value in model.get_layer("normalization").get_config()[name]]
        for name in ("mean", "std")
    )
    scaled = PSPNet(weights=model, mean=mean, std=std)
    export.onnx(model, tmp_path / "m.onnx", input_dtype="float32", progress=False)
    export.onnx(scaled, tmp_path / "scaled.onnx", input_dtype="float32", progress=False)
    examples = list(pairs(2, 24, 33))
    small = [((image / 255).astype("float32"), mask) for image, mask in examples]
    expected = export.check_exports(model, [tmp_path / "m.onnx"], examples, progress=False)
    results = export.check_exports(scaled, [tmp_path / "scaled.onnx"], small, progress=False)
    for row, same in zip(results, expected, strict=True):
        assert row.mean_iou == pytest.approx(same.mean_iou, abs=1e-3)


def test_unknown_files_and_empty_data_are_refused(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt isn't an export: give a \.tflite"):
        export.open_export(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="has no images"):
        export.check_exports(model, [], [], progress=False)


def test_opened_exports_warn_of_images_of_0_to_1(model, tmp_path):
    import warnings

    export.onnx(model, tmp_path / "m.onnx", input_dtype="float32", progress=False)
    predict = export.open_export(tmp_path / "m.onnx")
    images = np.random.default_rng(0).random((1, 24, 33, 3), "float32")
    with pytest.warns(UserWarning, match=r"images are between 0\.\d+ and \S+; exports take RGB"):
        predict(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(255 * images)
        predict(np.zeros_like(images))  # black is black on any scale
