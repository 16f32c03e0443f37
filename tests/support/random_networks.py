"""Small networks with random weights whose predictions vary from pixel to pixel."""

import datasets
import keras
import numpy as np
from PIL import Image

from keras_psp import PSPNet, data


def random_network(num_classes):
    keras.utils.set_random_seed(num_classes)
    network = PSPNet(
        num_classes=num_classes,
        backbone="resnet18",
        bin_sizes=(1, 2),
        fusion_filters=8,
        aux_weight=0,
    )
    classifier = network.get_layer("classifier")
    classifier.kernel.assign(np.random.default_rng(0).normal(size=classifier.kernel.shape))
    return network


def random_camvid(folder):
    """A small copy of CamVid with random test labels, so that some predictions are correct."""
    datasets.camvid(folder)
    generator = np.random.default_rng(0)
    for path in (folder / "testannot").iterdir():
        values = generator.integers(0, 12, (6, 8)).astype("uint8").repeat(8, 0).repeat(8, 1)
        Image.fromarray(values).save(path)
    return data.load("camvid", root=folder, complete=False)
