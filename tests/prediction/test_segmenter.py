"""`Segmenter` equals the authors' protocol written in NumPy at full size."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from support.networks import random_network

from keras_psp import PSPNet
from keras_psp.prediction import Protocol, Segmenter
from keras_psp.prediction.windows import resized

CLASSES = 5


@pytest.fixture(scope="module")
def model():
    return random_network(CLASSES, seed=3, fusion_filters=16)


def random_image(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype("float32")
    return np.rint(resized(coarse, (height, width))).astype("uint8")


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def matrix(size, target):
    """Bilinear interpolation between pixel centers, as OpenCV's INTER_LINEAR."""
    position = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
    return np.stack([np.interp(position, np.arange(size), row) for row in np.eye(size)], 1)


def resize(image, size):
    rows, columns = matrix(image.shape[0], size[0]), matrix(image.shape[1], size[1])
    return np.einsum("yh,xw,hwc->yxc", rows, columns, image.astype("float64"))


def plain(model, image, scales, flip, crop, base_size=None, stride=None):
    """The complete protocol, with everything at full size."""
    height, width = image.shape[:2]
    mean = np.array(model.get_layer("normalization").mean)
    total = 0
    for scale in scales:
        longer = round(scale * (base_size or max(height, width)))
        size = [round(longer / max(height, width) * n) for n in (height, width)]
        scaled = resize(image, size)
        side = (crop, crop) if crop else tuple(size)
        before = [max(c - n, 0) // 2 for c, n in zip(side, size, strict=True)]
        whole = [max(c, n) for c, n in zip(side, size, strict=True)]
        padded = np.tile(mean, (*whole, 1))
        inside = tuple(slice(b, b + n) for b, n in zip(before, size, strict=True))
        padded[inside] = scaled
        sums, counts = np.zeros((*whole, CLASSES)), np.zeros((*whole, 1))
        tops, lefts = (
            sorted({min(k * stride, n - c) for k in range(99)}) if crop else [0]
            for n, c in zip(whole, side, strict=True)
        )
        for top in tops:
            for left in lefts:
                place = slice(top, top + side[0]), slice(left, left + side[1])
                view = padded[place][None].astype("float32")
                scores = softmax(model.predict(view, verbose=0)[0])
                if flip:
                    mirrored = softmax(model.predict(view[:, :, ::-1], verbose=0)[0])
                    scores = (scores + mirrored[:, ::-1]) / 2
                sums[place] += scores
                counts[place] += 1
        total = total + resize((sums / counts)[inside], (height, width))
    return total / len(scales)


@pytest.mark.parametrize(
    ("size", "scales", "flip", "crop", "base_size", "stride"),
    [
        ((60, 81), (1.0,), True, 49, None, 33),  # windows that overlap in both directions
        ((60, 41), (1.0,), True, 49, None, 33),  # narrower than a window
        ((30, 41), (0.5, 1.0, 1.75), True, 49, 80, 33),
        ((60, 81), (0.75, 1.5), False, None, None, None),  # whole images
        ((81, 60), (1.0,), True, None, None, None),
        ((97, 50), (1.25,), False, 65, None, 44),
    ],
)
def test_probabilities_and_classes_equal_the_protocol_in_numpy(
    model, size, scales, flip, crop, base_size, stride
):
    image = random_image(*size)
    expected = plain(model, image, scales, flip, crop, base_size, stride)
    segmenter = Segmenter(model, scales=scales, flip=flip, crop=crop, base_size=base_size)
    probabilities = segmenter.probabilities(image)
    np.testing.assert_allclose(probabilities, expected, atol=2e-5)
    (classes,) = segmenter.classes([image])
    assert classes.dtype == np.uint8
    best = np.sort(expected, axis=-1)
    clear = best[..., -1] - best[..., -2] > 1e-4
    np.testing.assert_array_equal(classes[clear], expected.argmax(-1)[clear])


def test_a_single_view_has_the_classes_of_the_network(model):
    image = random_image(50, 70)
    (classes,) = Segmenter(model).classes([image])
    np.testing.assert_array_equal(classes, model.predict_classes(image[None], verbose=0)[0])


@pytest.mark.parametrize("crop", [None, 49])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_of_several_images_do_not_change_classes(model, crop, batch_size):
    images = [
        random_image(*size, seed) for seed, size in enumerate([(50, 70)] * 2 + [(60, 40), (30, 30)])
    ]
    options = {"scales": (1.0, 0.6), "flip": True, "crop": crop, "base_size": 70}
    alone = [Segmenter(model, **options).classes([image])[0] for image in images]
    together = Segmenter(model, **options, batch_size=batch_size).classes(iter(images))
    for one, other in zip(alone, together, strict=True):
        assert (one == other).mean() > 0.999


def test_probabilities_do_not_depend_on_the_rows_per_block(model, monkeypatch):
    image = random_image(60, 81)
    options = {"scales": (0.5, 1.5), "flip": True, "crop": 49}
    whole = Segmenter(model, **options).probabilities(image)
    monkeypatch.setattr("keras_psp.prediction.segmenter._BLOCK_ELEMENTS", 1)
    np.testing.assert_allclose(Segmenter(model, **options).probabilities(image), whole, atol=1e-6)


def test_results_are_yielded_as_soon_as_possible(model):
    read = []

    def images():
        for index in range(9):
            read.append(index)
            yield random_image(50, 50)

    stream = Segmenter(model, crop=49, batch_size=4).stream(images())
    next(stream)
    assert len(read) < 5


def test_a_softmax_network_and_bgr_weights(model):
    config = model.get_config()
    softmax = PSPNet.from_config({**config, "activation": "softmax"})
    softmax.set_weights(model.get_weights())
    image = random_image(40, 60)
    options = {"crop": 65, "flip": True}
    np.testing.assert_allclose(
        Segmenter(softmax, **options).probabilities(image),
        Segmenter(model, **options).probabilities(image),
        atol=1e-6,
    )
    bgr = PSPNet.from_config({**config, "mean": (1.0, 2.0, 3.0), "channel_order": "bgr"})
    assert Segmenter(bgr)._mean.tolist() == [3.0, 2.0, 1.0]


SCRIPT = """
import sys
import keras
import numpy as np
import keras_psp
from keras_psp.prediction import Segmenter

segmenter = Segmenter(
    keras.models.load_model(sys.argv[1]), scales=(0.6, 1.3), flip=True, crop=49, base_size=80
)
image = np.load(sys.argv[2])
np.save(sys.argv[3], segmenter.probabilities(image))
classes = segmenter.classes([image, image[:40]])
assert [mask.shape for mask in classes] == [(60, 81), (40, 81)]
print(keras.backend.backend())
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(model, tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} isn't installed")
    image = random_image(60, 81)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "image.npy", image)
    files = [str(tmp_path / name) for name in ("model.keras", "image.npy", "probabilities.npy")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *files],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == backend, done.stderr
    options = {"scales": (0.6, 1.3), "flip": True, "crop": 49, "base_size": 80}
    expected = Segmenter(model, **options).probabilities(image)
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": ()}, r"scales=\(\); give one or more factors above 0"),
        ({"scales": (1.0, -1.0)}, r"scales=\(1.0, -1.0\); give one or more"),
        ({"overlap": 1.0}, "overlap=1.0; it must be from 0 to below 1"),
        ({"scales": 1e6}, "scales=1000000.0; give one or more factors above 0 and below 100"),
        ({"crop": 8}, r"crop=8; windows need at least 9 pixels per side, .* of \(1, 2\)"),
        ({"crop": 0}, "crop is 0; it must be an integer from 1 to 16384"),
        ({"base_size": 2.5}, "base_size is 2.5; it must be an integer from 1 to 16384"),
        ({"base_size": 10**9}, "base_size is 1000000000; it must be an integer from 1 to 16384"),
        ({"batch_size": None}, "batch_size is None; it must be an integer >= 1"),
    ],
)
def test_invalid_arguments_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        Segmenter(model, **arguments)


def test_a_protocol_and_fields_are_refused(model):
    with pytest.raises(ValueError, match="both a protocol and flip are given; set it in the"):
        Segmenter(model, Protocol(crop=33), flip=True)


def test_an_invalid_image_is_refused(model):
    with pytest.raises(
        ValueError, match=r"image has shape \(5, 5\); it must be \(height, width, 3\)"
    ):
        Segmenter(model).classes([np.zeros((5, 5))])
    image = np.zeros((24, 32, 3))
    image[3] = np.nan
    with pytest.raises(ValueError, match="image 0 has values that are NaN or infinite"):
        Segmenter(model).classes([image])


def test_an_image_of_another_scale_is_reported(model):
    with pytest.warns(UserWarning, match="multiply images of 0..1 by 255"):
        Segmenter(model).classes([random_image(24, 32) / 255])


@pytest.mark.parametrize("options", [{"base_size": 2**14, "scales": 99.0}, {"crop": 2**14}])
def test_images_that_do_not_fit_into_the_memory_are_refused(model, options):
    with pytest.raises(ValueError, match=r"an image of 999x1 would become .* choose smaller ones"):
        Segmenter(model, **options).classes([np.zeros((1, 999, 3), np.uint8)] * 2)


@pytest.mark.parametrize("base_size", [None, 50, 170])
def test_a_single_view_leads_from_logits_to_classes(model, base_size):
    image = random_image(70, 93)
    segmenter = Segmenter(model, base_size=base_size)
    view = segmenter.single_view(image)
    logits = model.predict_low_resolution(view.pixels[None])[0]
    np.testing.assert_array_equal(view.classes(logits), segmenter.classes([image])[0])
    # Upsampled by the network, then resized as the protocol does it.
    upsampled = model.predict(view.pixels[None], verbose=0)[0]
    rows, columns = view.matrices(logits.shape[:2])
    np.testing.assert_allclose(
        np.einsum("yh,xw,hwc->yxc", rows, columns, logits),
        resize(upsampled, (70, 93)),
        atol=1e-5 * np.ptp(logits),
    )


@pytest.mark.parametrize("fields", [{"flip": True}, {"scales": 0.5}, {"crop": 33}])
def test_several_views_are_not_a_single_one(model, fields):
    with pytest.raises(ValueError, match="average the probabilities of several views"):
        Segmenter(model, **fields).single_view(random_image(40, 40))


def test_confidence_is_that_of_the_averaged_probabilities(model):
    image = random_image(60, 81)
    options = {"scales": (0.75, 1.5), "flip": True, "crop": 49, "base_size": 70}
    model.temperature = 2.0
    try:
        segmenter = Segmenter(model, **options)
        ((classes, probabilities, confidence),) = segmenter.outputs(
            [image], probabilities=True, confidence=True
        )
        ((same, nothing, alone),) = segmenter.outputs([image], confidence=True)
        (warm,) = segmenter.log_probabilities_at([image], [np.arange(3, 60 * 81, 7)])
    finally:
        model.temperature = 1.0
    cool = Segmenter(model, **options).probabilities(image)
    expected = np.sqrt(cool) / np.sqrt(cool).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(warm), cool.reshape(-1, CLASSES)[3::7], atol=1e-6)
    np.testing.assert_array_equal(classes, cool.argmax(-1))
    np.testing.assert_array_equal(same, classes)
    assert nothing is None
    best = np.sort(expected, axis=-1)
    entropy = -(expected * np.log(expected)).sum(-1) / np.log(CLASSES)
    for maps in (confidence, alone):
        np.testing.assert_allclose(maps.probability, best[..., -1], atol=1e-5)
        np.testing.assert_allclose(maps.margin, best[..., -1] - best[..., -2], atol=1e-5)
        np.testing.assert_allclose(maps.entropy, entropy, atol=1e-5)


def test_disagreement_is_the_share_of_views_with_another_class(model):
    image, scales = random_image(60, 81), (0.75, 1.5)
    segmenter = Segmenter(model, scales=scales, flip=True)
    ((classes, _, confidence),) = segmenter.outputs([image], confidence=True)
    differing = 0
    for scale in scales:  # each view alone, as an image of its own
        one = Segmenter(model, scales=(scale,))
        plain, mirrored = one.classes([image, image[:, ::-1]])
        differing = differing + (plain != classes) + (mirrored[:, ::-1] != classes).astype(int)
    assert np.mean(confidence.disagreement == differing / 4) > 0.995
    assert 0.02 < confidence.disagreement.mean() < 0.98


def test_a_single_view_has_no_disagreement(model):
    image = random_image(50, 70)
    ((classes, _, confidence),) = Segmenter(model).outputs([image], confidence=True)
    expected = softmax(model.predict(image[None], verbose=0)[0]).max(-1)
    np.testing.assert_allclose(confidence.probability, expected, atol=1e-5)
    assert confidence.disagreement is None
    np.testing.assert_array_equal(classes, Segmenter(model).classes([image])[0])
