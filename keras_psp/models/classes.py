"""TODO."""

import numpy as np

from keras_psp.models.pspnet import PSPNet
from keras_psp.palette import default_palette


def class_names_of(model: PSPNet) -> tuple[str, ...]:
    """The model's class names, or "class 0" and so on where it has none."""
    return tuple(model.class_names or (f"class {index}" for index in range(model.num_classes)))


def palette_of(model: PSPNet) -> np.ndarray:
    """(num_classes, 3) uint8: the model's colours, or those of `default_palette`.

    Beyond 256 classes these are used again.
    """
    if model.palette:
        return np.asarray(model.palette, np.uint8)
    colours = default_palette(min(model.num_classes, 256))
    return np.resize(colours, (model.num_classes, 3))
