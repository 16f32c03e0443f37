"""TODO."""

import keras

from keras_psp.layers.backbone import DilatedBackbone


def smallest_side(model):
    """Pixels a side below which the feature map has fewer cells than the largest bin."""
    stride = getattr(model.backbone, "output_stride", 8)
    largest = max(model.bin_sizes, default=1)
    side = stride * (largest - 1) + 1
    # Other backbones may round the size of their maps down.
    while isinstance(model.backbone, DilatedBackbone) and side < stride * (largest + 4):
        image = keras.KerasTensor((1, side, side, 3))
        if min(model.backbone.compute_output_spec(image)[1].shape[1:3]) >= largest:
            break
        side += 1
    return side
