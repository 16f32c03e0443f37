"""Networks for images other than RGB: gray, RGB with near infrared, multispectral.

Only the stem of a network depends on the channels. Weights for RGB are adapted by one rule, which
keeps the sum of the kernels over the channels: if all channels are the same gray image, the result
is that of this image repeated as RGB. The first three channels keep the kernels of red, green and
blue, further ones get the mean of the three; with one or two channels, each gets the mean. Then
all of them are multiplied by 3 / channels. timm (`adapt_input_conv`) and
segmentation_models.pytorch (`patch_first_conv`) also sum the kernels for gray images and scale by
3 / channels, but repeat red, green and blue for the further channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD, per_channel


def adapted_kernel(kernel: np.ndarray, channels: int, *, bgr: bool = False) -> np.ndarray:
    """Adapts the kernel of a first convolution for RGB images to other channels.

    Args:
        kernel: (height, width, 3, filters).
        channels: number of channels of the images.
        bgr: whether the kernel is for images in BGR order; the result begins with RGB.

    Returns:
        (height, width, channels, filters).
    """
    kernel = kernel[:, :, ::-1] if bgr else kernel
    mean = kernel.mean(axis=2, keepdims=True)
    parts = [mean] * channels if channels < 3 else [kernel, *[mean] * (channels - 3)]
    return np.concatenate(parts, axis=2) * (3 / channels)


def with_input_channels(model: keras.Model, channels: int, *, bgr: bool = False) -> keras.Model:
    """Copies a functional model for RGB images, adapting its first convolution to other channels.

    Args:
        model: from images (batch, height, width, 3) to features.
        channels, bgr: see `adapted_kernel`.

    Raises:
        ValueError: if more than the first convolution depends on the number of channels, as in
            models that normalize each color themselves.
    """
    model = keras.Model(model.inputs, model.outputs, name=model.name)
    scaled = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    if any(np.size(layer.scale) > 1 or np.size(layer.offset) > 1 for layer in scaled):
        raise _not_adaptable(model, channels)
    image = keras.Input((None, None, channels), name="image")
    try:
        copied = keras.models.clone_model(model, input_tensors=[image])
    except (ValueError, TypeError) as error:
        raise _not_adaptable(model, channels) from error
    for new, old in zip(copied.layers, model.layers, strict=True):
        values = []
        for array, variable in zip(old.get_weights(), new.weights, strict=True):
            shape = tuple(variable.shape)
            if array.shape != shape and array.shape == (3,) and shape == (channels,):
                array = np.array(per_channel(array, channels), array.dtype)
            elif array.shape != shape and isinstance(new, keras.layers.Conv2D):
                array = adapted_kernel(array, channels, bgr=bgr)
            if array.shape != shape:
                raise _not_adaptable(model, channels)
            values.append(array)
        new.set_weights(values)
    return copied


def _not_adaptable(model, channels):
    return ValueError(
        f"{model.name} can't be adapted to input_channels={channels}, since more than its first "
        "convolution depends on red, green and blue; choose another backbone, e.g. 'resnet50'."
    )


def image_statistics(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of the images that a `PSPNet` is meant for.

    Each is (channels,), in the order of the images' channels, e.g. RGB. They are those of the layer
    `normalization`, unless the backbone scales images itself, as MobileNetV3 does.
    """
    layer = model.get_layer("normalization")
    mean, std = np.array(layer.mean), np.array(layer.std)
    expected = getattr(model.backbone, "normalization", None)
    if expected is not None and not any(expected["mean"]):
        scale = std / expected["std"]
        mean = mean + scale * per_channel(IMAGENET_MEAN, len(mean))
        std = scale * per_channel(IMAGENET_STD, len(std))
    step = 1 if layer.channel_order == "rgb" else -1
    return mean[::step], std[::step]


def normalize_bands(model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
    """Makes a new `PSPNet` normalize each band by its measured mean and standard deviation.

    Args:
        model: the network, with the normalization that its weights expect for photos.
        mean, std: one number per band, in its own units, see `keras_psp.data.band_statistics`.

    Raises:
        ValueError: if the network has another number of channels.
    """
    layer = model.get_layer("normalization")
    if not len(mean) == len(std) == model.input_channels:
        raise ValueError(
            f"mean and std have {len(mean)} and {len(std)} values for "
            f"{model.input_channels} channels; give one per channel."
        )
    measured = measured_normalization(layer.get_config(), mean, std)
    layer.mean, layer.std = measured["mean"], measured["std"]


def measured_normalization(
    expected: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """Returns a normalization that gives each band the statistics of ImageNet's images.

    Args:
        expected: the normalization that the backbone expects for RGB images 0..255, as arguments
            of `ImageNormalization`, in RGB order and extended to the bands.
        mean, std: one number per band, in its own units.

    Returns:
        "mean", "std" and "channel_order" for `ImageNormalization`. The first two are `mean` and
        `std` themselves if the backbone expects ImageNet's mean and standard deviation.
    """
    bands = len(mean)
    wanted = per_channel(IMAGENET_MEAN, bands), per_channel(IMAGENET_STD, bands)
    scales = [own / usual for own, usual in zip(std, wanted[1], strict=True)]
    means = [
        own - (usual - offset) * scale
        for own, usual, offset, scale in zip(mean, wanted[0], expected["mean"], scales, strict=True)
    ]
    stds = [scale * divisor for scale, divisor in zip(scales, expected["std"], strict=True)]
    return {"mean": tuple(means), "std": tuple(stds), "channel_order": "rgb"}
