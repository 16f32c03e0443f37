import io

import keras
import numpy as np
import pytest
import rich.console

from keras_psp import DilatedResNet, MeanIoU, PSPNet, export

pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return PSPNet(3, backbone=DilatedResNet(18, stem_filters=(8,)), bin_sizes=(1, 2))


def pairs(count, *size):
    rng = np.random.default_rng(0)
    for _ in range(count):
        mask = rng.integers(0, 4, size).astype("uint8")
        mask[mask == 3] = 255
        yield rng.integers(0, 256, (*size, 3)).astype("uint8"), mask


def test_figures_are_those_of_the_network(model, tmp_path):
    export.onnx(model, tmp_path / "m.onnx", progress=False)
    export.saved_model(model, tmp_path / "m", output="logits")
    given = list(pairs(3, 24, 33))
    found = export.check_exports(
        model, [tmp_path / "m.onnx", tmp_path / "m"], given, progress=False
    )
    metric = MeanIoU(3)
    model.compile(metrics=[metric])
    images, masks = (np.stack(part) for part in zip(*given, strict=True))
    model.evaluate(images.astype("float32"), masks, verbose=0)
    assert found.images == 3
    assert [row.name for row in found] == ["network", *(str(tmp_path / n) for n in ("m.onnx", "m"))]
    assert found[0].mean_iou == pytest.approx(float(metric.result()), abs=1e-6)
    assert found[0].equal == 1 and found[0].size is None
    for row in found[1:]:
        assert row.equal > 0.999 and row.mean_iou == pytest.approx(found[0].mean_iou, abs=1e-3)
        assert row.size > 1e6 and row.milliseconds > 0


def test_an_export_of_other_weights_is_found_out(model, tmp_path):
    other = PSPNet(weights=model)
    *rest, kernel, bias = other.get_layer("classifier").get_weights()
    other.get_layer("classifier").set_weights([*rest, -kernel, bias])
    export.onnx(other, tmp_path / "m.onnx", progress=False)
    found = export.check_exports(model, [tmp_path / "m.onnx"], list(pairs(2, 24, 33)))
    assert found[1].equal < 0.7
    told = io.StringIO()
    found.print(console=rich.console.Console(file=told, width=200))
    assert "m.onnx" in told.getvalue() and f"{100 * found[1].equal:.3f} %" in told.getvalue()


def test_images_are_brought_to_one_size(model, tmp_path):
    export.onnx(model, tmp_path / "m.onnx", image_size=(24, 32), progress=False)
    given = [*pairs(1, 48, 64), *pairs(1, 30, 30)]
    found = export.check_exports(model, [tmp_path / "m.onnx"], given, image_size=(24, 32))
    assert found[1].equal > 0.999
    with pytest.raises(ValueError, match="are 48x64 but this file was exported for 24x32"):
        export.check_exports(model, [tmp_path / "m.onnx"], given, progress=False)


def test_errors(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt is no export: give a \.tflite"):
        export.open_export(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="holds no images"):
        export.check_exports(model, [], [], progress=False)
