import keras
import numpy as np
import pytest
from support.networks import random_network


@pytest.fixture(scope="session")
def model():
    """A network of five named classes whose predictions vary from pixel to pixel."""
    network = random_network(5, seed=3, fusion_filters=16)
    network.class_names = ["sky", "sea", "boat", "car", "road"]
    return network


@pytest.fixture(scope="session")
def image():
    coarse = np.random.default_rng(0).integers(0, 256, (1, 6, 8, 3)).astype("float32")
    pixels = keras.ops.image.resize(coarse, (90, 121), interpolation="bilinear")
    return np.rint(keras.ops.convert_to_numpy(pixels)[0]).astype("uint8")
