"""The same weights on the other backends, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from support.networks import tiny_pspnet

SCRIPT = """
import sys
import numpy as np
import keras
import keras_psp

model = keras.saving.load_model(sys.argv[1])
images = np.load(sys.argv[2])
logits = model.predict(images, verbose=0)
classes = model.predict_classes(images, verbose=0)
masks = np.zeros(images.shape[:3], "int32")
model.compile(metrics=[keras_psp.MeanIoU(4)])
before = model.evaluate(images, masks, verbose=0)[0]
model.fit(images, masks, epochs=3, verbose=0)
# A call after training is no training step.
assert model(images).shape == logits.shape
after = model.evaluate(images, masks, verbose=0)[0]
np.savez(sys.argv[3], logits=logits, classes=classes, losses=[before, after])
print(keras.backend.backend())
"""


@pytest.mark.slow  # a process per backend
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_logits_and_train(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model = tiny_pspnet(pooling="max", channel_order="bgr", mean=(99, 88, 77), std=(40, 50, 60))
    images = np.random.default_rng(0).integers(0, 256, (2, 49, 58, 3)).astype("uint8")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    files = [tmp_path / name for name in ("model.keras", "images.npy", "found.npz")]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, files)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip() == backend
    expected = model.predict(images, verbose=0)
    with np.load(files[2]) as found:
        np.testing.assert_allclose(found["logits"], expected, atol=1e-4 * np.ptp(expected))
        assert np.mean(found["classes"] == expected.argmax(-1)) > 0.999
        assert found["losses"][1] < found["losses"][0]
