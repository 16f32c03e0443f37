"""Checks the values passed to `fit`, `evaluate` and `predict`, before any lengthy work.

Arrays are checked as a whole, other sources by their first batch if this costs nothing: the check
sees the batch of a tf.data pipeline or generator as it is read, and on JAX and PyTorch, Keras
itself takes one before it starts.
"""

import contextlib
import itertools
import math
import os
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.models.bands import image_statistics
from keras_psp.models.checks import check_images, check_same_size

# An image scaled to 0..1 has more distinct values than this; a black one with noise doesn't.
_DISTINCT = 8
_FAR = 3  # in standard deviations: all bands' means from those of the training images


def check_arrays(
    model: Any, images: Any, masks: Any, weights: Any = None, *, training: bool = False
) -> None:
    """Raises ValueError for arrays of images and masks that don't fit each other or the model.

    It checks that images are finite and of the right scale, and that labels are a class or
    ignored; for training, also that sizes match and that the masks have something to learn.
    """
    for name, values in (("images", images), ("masks", masks)):
        if isinstance(values, list | tuple):
            raise ValueError(
                f"{name} are a {type(values).__name__} of {len(values)}; give one array, e.g. "
                f"np.stack({name})."
            )
    check_kind(images)
    if not hasattr(images, "shape"):
        return
    check_images(model, images)
    if not images.shape[0]:
        raise ValueError(f"images have shape {tuple(images.shape)}; there is no image.")
    if masks is None or not hasattr(masks, "shape"):
        raise ValueError(
            f"masks are {masks!r}; give one integer mask per image, (batch, height, width)."
        )
    if images.shape[0] != masks.shape[0]:
        raise ValueError(f"{images.shape[0]} images but {masks.shape[0]} masks; give one each.")
    if len(masks.shape) not in (3, 4):
        raise ValueError(
            f"masks have shape {tuple(masks.shape)}; give one integer mask per image, "
            "(batch, height, width)."
        )
    _check_not_one_hot(model, masks)
    if training:
        check_same_size(images, masks)
    check_values(model, images)
    _check_weights(weights)
    if model.compiled:
        check_labels(model, masks)
        if training:
            _check_classes(model, masks)


def check_kind(images: Any) -> None:
    """Raises ValueError if images are None or the name of a file."""
    if images is None or isinstance(images, str | bytes | os.PathLike):
        raise ValueError(
            f"images are {images!r}; give an array, (batch, height, width, channels), or "
            "batches. keras_psp.train, evaluate and predict read files."
        )


def check_values(model: Any, images: Any, report: Callable[[str], None] | None = None) -> None:
    """Raises ValueError if images aren't finite, or don't have the scale that the model takes.

    If `report` is given, it gets the second message instead, since a dark image may look the same.
    """
    scale = image_scale(model)
    dtype = _number_type("images", images)
    if model.input_channels != 3:
        _check_bands(model, images, report)
    if not keras.backend.is_float_dtype(dtype) and scale != 1:
        return
    lowest, highest = math.inf, -math.inf
    for index, image in enumerate(images):
        values = ops.convert_to_numpy(image)
        low, high = float(values.min()), float(values.max())  # NaN if there is one
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"image {index} has values that are NaN or infinite; repair it.")
        lowest, highest = min(lowest, low), max(highest, high)
    if model.input_channels != 3:
        return
    message = ""
    if scale == 255 and (highest <= 1 or (lowest <= -0.5 and highest <= 8)):
        if len(np.unique(ops.convert_to_numpy(images[:4]))) > _DISTINCT:
            message = (
                f"images are between {lowest:.3g} and {highest:.3g} but this PSPNet takes RGB "
                "values 0..255: multiply images of 0..1 by 255, or give "
                "PSPNet(..., mean=, std=) the numbers of your scale."
            )
    elif scale == 1 and highest > 8:
        message = (
            f"images are between {lowest:.3g} and {highest:.3g} but this PSPNet's mean and std "
            "are those of images of 0..1: divide the images by 255, or multiply mean and std."
        )
    if message and report is not None:
        report(message)
    elif message:
        raise ValueError(message)


def _check_bands(model, images, report):
    """Reports images whose units aren't those that the network normalizes by."""
    mean, std = image_statistics(model)
    values = ops.convert_to_numpy(images[:16]).reshape(-1, model.input_channels)
    means, deviations = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    distances = np.abs(means - mean) / std
    if not (np.isfinite(distances).all() and deviations.any() and distances.min() > _FAR):
        return
    band = int(distances.argmin())
    message = (
        f"the images' bands are all far from what this PSPNet normalizes by: band {band + 1} has "
        f"mean {means[band]:.4g}, but its mean and std are {mean[band]:.4g} and "
        f"{std[band]:.4g}; give images in the units of those it is trained on."
    )
    if report is None:
        raise ValueError(message)
    report(message)


def warn_of_values(message: str) -> None:
    """Warns about a wrong scale of images where it isn't an error."""
    warnings.warn(message, stacklevel=4)


def image_scale(model: Any) -> int | None:
    """Returns the largest value of the images that a model takes, 255 or 1; None if unknown."""
    layer = model.get_layer("normalization")
    largest = max(*map(abs, layer.mean), *layer.std)
    if largest > 2:
        return 255
    if not _is_unchanged(layer.mean, layer.std):
        return 1
    # Some models of keras.applications scale images of 0..255 themselves.
    expected = getattr(model.backbone, "normalization", None)
    return 255 if expected and _is_unchanged(expected["mean"], expected["std"]) else None


def _is_unchanged(mean, std):
    return not any(mean) and set(std) == {1.0}


def _number_type(name, values):
    """Returns the dtype as a string; raises ValueError if it isn't numeric."""
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biufV":
        raise ValueError(f"{name} have dtype {values.dtype}; they must be numbers.")
    return keras.backend.standardize_dtype(values.dtype)


def _check_weights(weights):
    if not hasattr(weights, "shape"):
        return
    values = ops.convert_to_numpy(weights)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise ValueError(
            f"sample_weight has the value {values[wrong].flat[0]}; weights must be finite and not "
            "negative."
        )


def check_labels(model: Any, masks: Any, name: str = "mask") -> None:
    """Raises ValueError if a mask has a value that is neither a class nor the ignored label."""
    if not _are_labels(model, masks):
        return
    _number_type("masks", masks)
    ignored = model._loss_function.ignore_class
    for index, mask in enumerate(masks):
        mask = ops.convert_to_numpy(mask)
        invalid = (mask < 0) | (mask >= model.num_classes)
        if ignored is not None:
            invalid &= mask != ignored
        if mask.dtype.kind not in "biu":
            invalid |= mask != np.floor(mask)
        if invalid.any():
            raise ValueError(
                f"{name} {index} holds the label {mask[invalid].flat[0]}, which is neither one of "
                f"the {model.num_classes} classes (0..{model.num_classes - 1}) nor the "
                f"ignored label ({ignored}); relabel the mask, raise num_classes, or name "
                "it as the loss' ignore_class."
            )


def _are_labels(model, masks):
    """Whether the loss is known to take labels, and the masks have the shape of labels."""
    known = hasattr(model._loss_function, "ignore_class")
    return known and (len(masks.shape) == 3 or masks.shape[-1] == 1)


def _check_classes(model, masks):
    """Raises ValueError, or warns, if the masks have fewer than two classes."""
    if not _are_labels(model, masks):
        return
    ignored, classes, ignores = model._loss_function.ignore_class, set(), False
    for mask in masks:
        values = ops.convert_to_numpy(mask)
        if ignored is not None:
            counted = values != ignored
            ignores |= not counted.all()
            values = values[counted]
        if values.size:
            classes |= {int(values.min()), int(values.max())}
        if len(classes) > 1:
            return
    if not classes:
        raise ValueError(
            f"all pixels of the masks have the label {ignored}, which is ignored; nothing can be "
            "learned."
        )
    label = classes.pop()
    if ignores:
        other = int(label == 0)
        raise ValueError(
            f"the masks have the labels {label} and {ignored} only, and {ignored} is ignored, so "
            f"nothing can be learned. If {ignored} means a class, give it a number: "
            f"np.where(masks == {ignored}, {other}, masks)."
        )
    warnings.warn(
        f"all pixels of the masks have the label {label}; at least two classes must occur for a "
        "network to learn something.",
        stacklevel=4,
    )


def _check_not_one_hot(model, masks):
    """Raises ValueError if the masks have one score per class but the loss takes labels."""
    channels = masks.shape[-1] if len(masks.shape) == 4 else 1
    if model.compiled and hasattr(model._loss_function, "ignore_class") and channels != 1:
        raise ValueError(
            f"masks have shape {tuple(masks.shape)}; give one integer mask per image, (batch, "
            "height, width), e.g. np.argmax(masks, axis=-1) of one-hot masks."
        )


def check_batch(
    model: Any,
    batch: Any,
    report: Callable[[str], None] | None = None,
    name: str = "the first batch's mask",
) -> None:
    """Checks the values of one batch of any source, as for arrays."""
    images, masks, _ = map(_local, keras.utils.unpack_x_y_sample_weight(batch))
    if len(getattr(images, "shape", ())) == 4 and images.shape[0]:
        check_values(model, images, report)
        if model.compiled and len(getattr(masks, "shape", ())) in (3, 4):
            _check_not_one_hot(model, masks)
            check_labels(model, masks, name)


def _local(array):
    """Returns this process' part of an array that JAX spreads over several machines."""
    if getattr(array, "is_fully_addressable", True):
        return array
    return array.addressable_shards[0].data


def find_invalid_label(model: Any, data: Any, steps: int | None = None) -> None:
    """Raises ValueError for the first invalid label, if the source can be read again.

    `steps` is the number of batches to read, for a source that repeats; None for all.
    """
    batches = data
    if isinstance(data, keras.utils.PyDataset):
        batches = (data[index] for index in range(data.num_batches or 0))
    elif hasattr(data, "__next__") or hasattr(data, "shape") or not hasattr(data, "__iter__"):
        return
    for index, batch in enumerate(itertools.islice(batches, steps)):
        _, masks, _ = keras.utils.unpack_x_y_sample_weight(batch)
        check_labels(model, masks, f"batch {index}: mask")


@contextlib.contextmanager
def first_batch_checked(
    model: Any, data: Any, report: Callable[[str], None] | None = None
) -> Iterator[Any]:
    """Yields a source whose first batch is checked, if this costs nothing.

    The batch of a generator or, on TensorFlow, of a tf.data pipeline of float images is checked
    as it is read; that of a PyDataset, on TensorFlow, immediately. Raises the check's own error
    instead of TensorFlow's, which only quotes it.
    """
    errors: list[Exception] = []

    def check(*batch):
        try:
            check_batch(model, batch, report)
        except ValueError as error:
            errors.append(error)
            raise

    if isinstance(data, types.GeneratorType):
        data = _checked_generator(data, check)
    elif isinstance(data, keras.utils.PyDataset) and data.num_batches:
        if keras.backend.backend() == "tensorflow":
            check_batch(model, data[0], report)
    elif keras.backend.backend() == "tensorflow":
        data = _checked_pipeline(model, data, check)
    try:
        yield data
    except Exception as error:
        if errors and error is not errors[0]:
            raise errors[0] from None
        raise


def _checked_generator(data, check):
    for index, batch in enumerate(data):
        if index == 0:
            check(*keras.utils.unpack_x_y_sample_weight(batch))
        yield batch


def _checked_pipeline(model, data, check):
    import tensorflow as tf

    if not isinstance(data, tf.data.Dataset) or model.distribute_strategy.num_replicas_in_sync > 1:
        return data
    spec, masks, _ = keras.utils.unpack_x_y_sample_weight(data.element_spec)
    tensors = (spec,) if masks is None else (spec, masks)
    if not all(isinstance(each, tf.TensorSpec) for each in tensors) or spec.dtype.is_integer:
        return data

    def first_checked(index, batch):
        parts = keras.utils.unpack_x_y_sample_weight(batch)[: len(tensors)]

        def checked():
            tf.py_function(check, parts, [])
            return True

        tf.cond(index == 0, checked, lambda: True)
        return batch

    return data.enumerate().map(tf.autograph.experimental.do_not_convert(first_checked))
