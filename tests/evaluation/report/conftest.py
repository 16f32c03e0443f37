import keras
import numpy as np
import pytest
from support.networks import random_network

from keras_psp.evaluation.report import Example, explain_examples
from keras_psp.prediction import Segmenter


@pytest.fixture(scope="package")
def model():
    """A network of five named classes whose predictions vary from pixel to pixel."""
    network = random_network(5, seed=3, fusion_filters=16)
    network.class_names = ["sky", "<b>sea</b>", "boat", "car", "road"]
    return network


@pytest.fixture(scope="package")
def examples(model):
    """Eight images with labels that are partly wrong, and their predictions, best first."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 6, 8, 3)).astype("float32")
    pixels = keras.ops.image.resize(coarse, (90, 121), interpolation="bilinear")
    images = np.rint(keras.ops.convert_to_numpy(pixels)).astype("uint8")
    shown = []
    for number, (image, classes) in enumerate(
        zip(images, Segmenter(model).classes(images), strict=True)
    ):
        truth = classes.astype(int)
        truth[:30] = number % 5
        truth[60:, :20] = 255
        shown.append(Example(f"image {number}", image, truth, classes, 1 - number / 10))
    return shown


@pytest.fixture(scope="package")
def explanations(model, examples):
    return explain_examples(Segmenter(model), examples, progress=False)
