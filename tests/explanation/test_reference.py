import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp.explanation import level_means
from keras_psp.models.parts import LogitParts


def test_means_of_images_count_equally(model, image, tmp_path):
    other = image[::-1, 40:]
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(other).save(tmp_path / "b.png")
    means = level_means(tmp_path, model)
    assert (means.bin_sizes, means.images, str(means)) == ((1, 2), 2, "their mean over 2 images")
    both = [LogitParts(model, x.astype("float32")).means() for x in (image, other)]
    for value, first, second in zip(means.values, *both, strict=True):
        np.testing.assert_allclose(value, (first + second) / 2, rtol=1e-5, atol=1e-6)


def test_the_mean_of_the_image_alone_is_that_of_the_default(model, image):
    means = level_means(image, model)
    with_means = keras_psp.explain(image, model, reference=means).context()
    np.testing.assert_array_equal(
        with_means.classes, keras_psp.explain(image, model).context().classes
    )
    assert with_means.reference == "their mean over 1 images"


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        ([], {}, "images is empty; give at least one"),
        ("none.png", {}, "none.png"),
        (["a.mp4"], {}, "a.mp4: is a video; save its frames as images"),
        (np.zeros((1, 20, 20, 3)), {"flip": True}, "flip=True and crop=None average the"),
    ],
)
def test_what_has_no_mean_is_refused(model, images, arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        level_means(images, model, **arguments)


def test_an_image_that_is_too_small_is_named(model, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image[:5]).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b.png: the network can't process it: images of 5x121"):
        level_means(tmp_path, model)
