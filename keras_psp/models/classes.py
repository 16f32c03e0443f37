"""Class names and colors of a model, with defaults if it has none."""

import numpy as np

from keras_psp.models.pspnet import PSPNet
from keras_psp.palette import default_palette


def class_names_of(model: PSPNet) -> tuple[str, ...]:
    """The model's class names, or "class 0", "class 1", ... if it has none."""
    return tuple(model.class_names or (f"class {index}" for index in range(model.num_classes)))


def palette_of(model: PSPNet) -> np.ndarray:
    """The model's colors, or those of `default_palette`, which repeat after 256 classes.

    Returns:
        (num_classes, 3) uint8, RGB.
    """
    if model.palette:
        return np.asarray(model.palette, np.uint8)
    colors = default_palette(min(model.num_classes, 256))
    return np.resize(colors, (model.num_classes, 3))
