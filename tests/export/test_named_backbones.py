import numpy as np
import pytest
from support.networks import SMALLEST_BACKBONES

from keras_psp import PSPNet, export


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST_BACKBONES)
def test_exports_of_a_backbone_by_name_give_its_logits(name, tmp_path):
    pytest.importorskip("tf2onnx", reason="needs the extra onnx")
    model = PSPNet(3, backbone=name, bin_sizes=(1, 2), aux_weight=0)
    images = np.random.default_rng(0).integers(0, 256, (1, 81, 97, 3)).astype("uint8")
    logits = model.predict(images.astype("float32"), verbose=0)
    options = {"image_size": (81, 97), "output": "logits", "progress": False}
    for write, file in ((export.onnx, "network.onnx"), (export.tflite, "network.tflite")):
        write(model, tmp_path / file, **options)
        actual = export.open_export(tmp_path / file)(images)
        np.testing.assert_allclose(actual, logits, atol=1e-5 * np.ptp(logits))
