import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_predictor
from support.rasters import write_raster

import keras_psp
from keras_psp.explanation import LevelMeans

# Sums of parts at the image's size, on another backend.
SCRIPT = """
import sys
import keras
import numpy as np
import keras_psp

model = keras.saving.load_model(sys.argv[1])
image = np.load(sys.argv[2])
explanation = keras_psp.explain(image, model)
context = explanation.context()
parts = np.stack([explanation.parts(index) for index in range(5)])
np.savez(sys.argv[3], parts=parts, without=context.classes, level=context.level)
print(keras.backend.backend())
"""


@pytest.mark.parametrize("base_size", [None, 80, 200])
def test_classes_are_those_of_predict_and_parts_add_up(model, image, base_size):
    explanation = keras_psp.explain(image, model, base_size=base_size)
    prediction = keras_psp.predict(image, model, base_size=base_size)
    np.testing.assert_array_equal(explanation.classes, prediction.classes)
    span = np.ptp(explanation.low_resolution_logits)
    for pair in ((0, None), (1, None), ("boat", "car"), (4, "sky")):
        parts = explanation.parts(*pair)
        assert parts.shape == (2 + len(model.bin_sizes), *image.shape[:2])
        np.testing.assert_allclose(parts.sum(0), explanation.logits(*pair), atol=2e-6 * span)


def test_logits_at_the_images_size_are_those_of_the_model(model, image):
    explanation = keras_psp.explain(image, model)
    logits = model.predict(image[None], verbose=0)[0]
    for index, name in enumerate(explanation.class_names):
        np.testing.assert_allclose(
            explanation.logits(name), logits[..., index], atol=2e-6 * np.ptp(logits)
        )


def test_a_file_is_read_as_by_predict(model, image, tmp_path):
    path = tmp_path / "harbor.png"
    Image.fromarray(image).save(path)
    explanation = keras_psp.explain(path, model)
    assert (explanation.name, explanation.source) == ("harbor", str(path))
    np.testing.assert_array_equal(explanation.image, image)
    assert repr(explanation) == f"<Explanation of {path}, 121x90>"


@pytest.mark.parametrize(
    ("given", "arguments", "message"),
    [
        ("image", {"scales": (0.5, 1.0)}, r"scales=\(0.5, 1.0\), flip=False and crop=None average"),
        ("image", {"flip": True}, "which have no parts that add up to one logit; leave them out"),
        ("image", {"crop": 73}, "crop=73 average the probabilities of several views"),
        ("image", {"reference": "data"}, "reference is 'data'; it must be \"image\", or what"),
        ("image", {"base_size": 8}, "can't process it: .*; base_size is 8, a larger one may help"),
        ("images", {}, "several images; give a single one"),
        ("video", {}, "street.mp4: is a video; save its frames as images"),
    ],
)
def test_what_cannot_be_explained_is_refused(model, image, given, arguments, message):
    given = {"image": image, "images": [image, image], "video": "street.mp4"}[given]
    with pytest.raises(ValueError, match=message):
        keras_psp.explain(given, model, **arguments)


def test_a_reference_of_another_network_is_refused(model, image):
    values = tuple(np.zeros(8, np.float32) for _ in range(2))
    with pytest.raises(ValueError, match=r"levels of \(1, 2\) bins with \[8, 8\] channels, but"):
        keras_psp.explain(image, model, reference=LevelMeans((1, 2), values, 3))


@pytest.mark.slow  # a process per backend
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_parts(backend, model, image, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    files = [str(tmp_path / name) for name in ("model.keras", "image.npy", "found.npz")]
    model.save(files[0])
    np.save(files[1], image)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *files],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip() == backend
    explanation = keras_psp.explain(image, model)
    logits = model.predict(image[None], verbose=0)[0]
    context = explanation.context()
    with np.load(files[2]) as found:
        np.testing.assert_allclose(
            found["parts"].sum(axis=1), np.moveaxis(logits, -1, 0), atol=1e-5 * np.ptp(logits)
        )
        assert np.mean(found["without"] == context.classes) > 0.999
        assert np.mean(found["level"] == context.level) > 0.99


@pytest.mark.skipif(importlib.util.find_spec("rasterio") is None, reason="rasterio isn't installed")
def test_other_bands_are_read_explained_and_drawn(tmp_path):
    options = {"input_channels": 4, "mean": (3000.0,) * 4, "std": (500.0,) * 4}
    network = tiny_predictor(5, **options)
    pixels = np.random.default_rng(0).normal(3000, 500, (64, 80, 4)).astype("uint16")
    path = write_raster(tmp_path / "tile.tif", pixels)
    explanation = keras_psp.explain(path, network)
    np.testing.assert_array_equal(explanation.classes, keras_psp.predict(path, network).classes)
    assert keras_psp.explanation.level_means([path], network).images == 1
    explanation.save(tmp_path / "explanation.png")
    assert Image.open(tmp_path / "explanation.png").mode == "RGB"
