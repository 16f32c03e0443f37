"""Checks of a PSPNet's arguments and of the shapes of images and masks."""

from typing import Any

import keras
import numpy as np

from keras_psp.arguments import checked_integer, checked_string, checked_tuple
from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.palette import checked_palette


def checked_policy(dtype: Any) -> keras.DTypePolicy:
    """Returns the precision as a policy; raises ValueError unless it is floating-point."""
    try:
        policy = keras.dtype_policies.get(dtype)
    except (TypeError, ValueError, AttributeError):
        policy = None
    if policy is None or not keras.backend.is_float_dtype(policy.compute_dtype):
        raise ValueError(
            f"dtype is {dtype!r}; it must be a floating-point precision, e.g. 'float32' or "
            "'mixed_bfloat16'."
        )
    return policy


def checked_input_shape(shape: Any, channels: int = 3) -> tuple[int | None, int | None, int]:
    """Returns the shape; raises ValueError unless it is (height, width, channels).

    Sides may be None. None for the shape is (None, None, channels).
    """

    def checked_side(name, value):
        return None if value is None else checked_integer(name, value, least=1)

    if shape is None:
        return None, None, channels
    try:
        checked = checked_tuple("input_shape", shape, checked_side, length=3)
    except ValueError:
        checked = (None, None, None)
    if checked[2] != channels:
        raise ValueError(
            f"input_shape is {shape!r}; it must be (height, width, {channels}), with None for a "
            f"side that varies; other channels than {channels} are given by input_channels."
        )
    return checked


def checked_class_names(names: Any, num_classes: int) -> list[str] | None:
    """Returns the names; raises ValueError unless they are one different string per class."""
    if names is None:
        return None
    checked = checked_tuple("class_names", names, checked_string)
    _check_count("class_names", checked, num_classes)
    repeated = [name for name in checked if checked.count(name) > 1]
    if repeated:
        raise ValueError(
            f"class_names has {repeated[0]!r} more than once; give every class its own name."
        )
    return list(checked)


def checked_colors(palette: Any, num_classes: int) -> list[list[int]] | None:
    """Returns the palette; raises ValueError unless it is one color per class."""
    if palette is None:
        return None
    try:
        colors = checked_palette(palette)
    except (TypeError, ValueError) as error:
        message = str(error)
        if not message.startswith("palette"):  # NumPy's, for ragged lists
            message = f"palette is {palette!r}; it must be one (red, green, blue) per class."
        raise ValueError(message) from None
    _check_count("palette", colors, num_classes)
    return colors.tolist()


def _check_count(name, values, num_classes):
    if len(values) != num_classes:
        raise ValueError(
            f"{name} has {len(values)} entries for num_classes={num_classes}; give one per class."
        )


def smallest_side(model: Any) -> int:
    """Height and width below which the feature map has fewer cells than the largest bin."""
    stride, largest = _stride_and_largest_bin(model)
    side = stride * (largest - 1) + 1
    # Other backbones may round the size of their maps down.
    if isinstance(model.backbone, DilatedBackbone):
        while side < _always_enough(model) and _cells(model, side) < largest:
            side += 1
    return side


def _cells(model, side):
    """Height of the feature map of an image of side x side; 0 if it's too small for a layer."""
    image = keras.KerasTensor((1, side, side, model.input_channels))
    try:
        return model.backbone.compute_output_spec(image)[1].shape[1]
    except ValueError:
        return 0


def check_images(model: Any, images: Any) -> None:
    """Raises ValueError if images have other channels, or are too small for the largest bin."""
    channels = model.input_channels
    if not hasattr(images, "shape") and not isinstance(images, list):
        raise ValueError(
            f"images are a {type(images).__name__}; PSPNet takes one array or tensor, "
            f"(batch, height, width, {channels})."
        )
    shape = tuple(np.shape(images) if isinstance(images, list) else images.shape)
    if len(shape) != 4 or shape[-1] != channels:
        kind = "PSPNet takes RGB" if channels == 3 else "this PSPNet takes"
        raise ValueError(
            f"images have shape {shape}; {kind} batches (batch, height, width, {channels}). "
            + _channel_remedy(shape, channels)
        )
    shortest = min((n for n in shape[1:3] if n is not None), default=None)
    if shortest is None or shortest >= _always_enough(model):
        return
    least = smallest_side(model)
    if shortest < least:
        raise ValueError(
            f"images of {shape[1]}x{shape[2]} give a feature map smaller than the largest "
            f"of bin_sizes={model.bin_sizes}; use images of at least {least} pixels per side, or "
            "smaller bins."
        )


def check_weights(model: keras.Model, name: str = "the file") -> None:
    """Raises ValueError if a weight of the model is NaN or infinite."""
    for variable in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise ValueError(
                f"{variable.path} holds weights that are NaN or infinite: {name} comes from a "
                "training that diverged, or is damaged; load an earlier one."
            )


def check_same_size(images: Any, masks: Any) -> None:
    """Raises an error if training masks differ in size from their images, also while tracing."""
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


def _always_enough(model):
    """A side that is large enough for any backbone, however it rounds sizes."""
    stride, largest = _stride_and_largest_bin(model)
    return stride * (largest + 4)


def _stride_and_largest_bin(model):
    return getattr(model.backbone, "output_stride", 8), max(model.bin_sizes, default=1)


def _channel_remedy(shape, channels):
    if len(shape) == 3:
        return "Add the batch: images[None]."
    if channels != 3:
        return "Give the bands that it was trained on."
    given = shape[-1] if shape else None
    return {
        1: "Repeat the gray channel: np.repeat(images, 3, axis=-1).",
        4: "Drop the alpha channel: images[..., :3].",
    }.get(given, "Convert the images to RGB, or make a PSPNet(input_channels=...).")
