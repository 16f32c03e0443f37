"""Checks of a PSPNet's arguments, images and masks, whose errors name the value and the remedy."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.layers.backbone import DilatedBackbone


def check_arguments(
    num_classes: Any,
    activation: Any,
    aux_weight: float,
    class_names: Sequence[str] | None,
    palette: Sequence[Sequence[int]] | None,
) -> None:
    """Raises ValueError for invalid arguments of `PSPNet` that no layer checks."""
    if not isinstance(num_classes, int | np.integer) or num_classes < 2:
        raise ValueError(
            f"num_classes={num_classes!r}; a mask needs an integer of at least 2 classes."
        )
    if activation not in (None, "softmax"):
        raise ValueError(f"activation={activation!r} is unknown; choose None or 'softmax'.")
    if aux_weight < 0:
        raise ValueError(f"aux_weight={aux_weight} is negative; 0 drops the auxiliary head.")
    for name, values in (("class_names", class_names), ("palette", palette)):
        if values is not None and len(values) != num_classes:
            raise ValueError(
                f"{name} has {len(values)} entries for num_classes={num_classes}; give one per "
                "class."
            )


def smallest_side(model: Any) -> int:
    """Height and width below which the feature map has fewer cells than the largest bin."""
    stride, largest = _stride_and_largest_bin(model)
    side = stride * (largest - 1) + 1
    # Other backbones may round the size of their maps down.
    while isinstance(model.backbone, DilatedBackbone) and side < stride * (largest + 4):
        image = keras.KerasTensor((1, side, side, 3))
        if min(model.backbone.compute_output_spec(image)[1].shape[1:3]) >= largest:
            break
        side += 1
    return side


def check_images(model: Any, images: Any) -> None:
    """Raises ValueError for images that are not RGB batches, or too small for the largest bin."""
    if not hasattr(images, "shape") and not isinstance(images, list):
        raise ValueError(
            f"images are a {type(images).__name__}; PSPNet takes one array or tensor, "
            "(batch, height, width, 3)."
        )
    shape = tuple(np.shape(images) if isinstance(images, list) else images.shape)
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(
            f"images have shape {shape}; PSPNet takes RGB batches (batch, height, width, 3). "
            + _channel_remedy(shape)
        )
    stride, largest = _stride_and_largest_bin(model)
    if any(n is not None and math.ceil(n / stride) < largest for n in shape[1:3]):
        raise ValueError(
            f"images of {shape[1]}x{shape[2]} give a feature map smaller than the largest "
            f"of bin_sizes={model.bin_sizes}; use images of at least "
            f"{stride * (largest - 1) + 1} pixels per side, or smaller bins."
        )


def check_arrays(model: Any, images: Any, masks: Any, *, same_size: bool = False) -> None:
    """Raises ValueError for arrays of images and masks that don't fit each other or the model.

    Counts, labels and, for training, sizes. Sources other than arrays check their own examples.
    """
    if not (hasattr(images, "shape") and hasattr(masks, "shape")):
        return
    check_images(model, images)
    if images.shape[0] != masks.shape[0]:
        raise ValueError(f"{images.shape[0]} images but {masks.shape[0]} masks; give one each.")
    if same_size:
        check_same_size(images, masks)
    if not model.compiled:
        return
    ignored = getattr(model._loss_function, "ignore_class", None)
    for index, mask in enumerate(masks):
        mask = ops.convert_to_numpy(mask)
        invalid = (mask < 0) | (mask >= model.num_classes)
        if ignored is not None:
            invalid &= mask != ignored
        if invalid.any():
            raise ValueError(
                f"mask {index} holds the label {mask[invalid].flat[0]}, which is neither one of "
                f"the {model.num_classes} classes (0..{model.num_classes - 1}) nor the "
                f"ignored label ({ignored}); relabel the mask, raise num_classes, or name "
                "it as the loss' ignore_class."
            )


def check_same_size(images: Any, masks: Any) -> None:
    """Raises for training masks whose size differs from their images', also while tracing."""
    size, mask_size = tuple(images.shape[1:3]), tuple(masks.shape[1:3])
    known = all(n is not None for n in (*size, *mask_size))
    if known and size != mask_size:
        raise ValueError(
            f"masks are {mask_size[0]}x{mask_size[1]} but their images {size[0]}x{size[1]}; "
            "resize the masks (nearest neighbor) or the images so that they match."
        )
    if not known and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.debugging.assert_equal(
            tf.shape(images)[1:3],
            tf.shape(masks)[1:3],
            "masks differ in size from their images; resize the masks (nearest neighbor) or "
            "the images so that they match.",
        )


def _stride_and_largest_bin(model):
    return getattr(model.backbone, "output_stride", 8), max(model.bin_sizes, default=1)


def _channel_remedy(shape):
    if len(shape) == 3:
        return "Add the batch: images[None]."
    channels = shape[-1] if shape else None
    return {
        1: "Repeat the gray channel: np.repeat(images, 3, axis=-1).",
        4: "Drop the alpha channel: images[..., :3].",
    }.get(channels, "Convert the images to RGB.")
