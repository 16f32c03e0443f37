"""EfficientNet-Lite: EfficientNets for phones, without squeeze-and-excitation and with ReLU6.

As in tpu/models/official/efficientnet/lite/efficientnet_lite_builder.py, except that training has
no stochastic depth.
"""

import functools
import math

import keras
from keras import layers

# Factors of channels and repetitions, by version.
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
# Repetitions, kernel size, stride, expansion and channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# Channels last also if Keras is configured otherwise, like the rest of PSPNet.
_OPTIONS = {"use_bias": False, "data_format": "channels_last"}
_conv = functools.partial(layers.Conv2D, **_OPTIONS)


def efficientnet_lite(version: int, *, head: bool = False) -> keras.Model:
    """EfficientNet-Lite without its classifier and with random weights.

    Args:
        version: 0 to 4.
        head: whether to add the last 1x1 convolution, to 1280 channels. They are meant to be
            averaged over the image; fusing them would cost more than the whole backbone.

    Returns:
        A functional model from images (batch, height, width, 3), normalized to (x - 127) / 128, to
        features (batch, ceil(height / 32), ceil(width / 32), channels) with 320 to 448 channels.
    """
    width, depth = _SCALES[version]
    images = keras.Input((None, None, 3), name="image")
    x = _norm(_conv(32, 3, 2, "same", name="stem_conv")(images), "stem_bn")
    x = layers.ReLU(6.0, name="stem_activation")(x)
    block = 0
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES):
        if 0 < stage < len(_STAGES) - 1:
            repeats = math.ceil(repeats * depth)
        for repeat in range(repeats):
            name = f"block{block}"
            x = _block(x, kernel, 1 if repeat else stride, expansion, _scaled(filters, width), name)
            block += 1
    if head:
        x = _norm(_conv(1280, 1, name="top_conv")(x), "top_bn")
        x = layers.ReLU(6.0, name="top_activation")(x)
    return keras.Model(images, x, name=f"efficientnet_lite{version}")


def _scaled(filters, width):
    """Scaled channels, rounded to a multiple of eight that is at most a tenth less."""
    filters *= width
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * filters else rounded + 8


def _norm(x, name):
    return layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)(x)


def _block(x, kernel, stride, expansion, filters, name):
    """An inverted residual block."""
    y, channels = x, x.shape[-1]
    if expansion > 1:
        y = _conv(channels * expansion, 1, name=f"{name}_expand_conv")(y)
        y = layers.ReLU(6.0, name=f"{name}_expand_activation")(_norm(y, f"{name}_expand_bn"))
    depthwise = layers.DepthwiseConv2D(
        kernel, stride, "same", name=f"{name}_depthwise_conv", **_OPTIONS
    )
    y = layers.ReLU(6.0, name=f"{name}_activation")(_norm(depthwise(y), f"{name}_bn"))
    y = _conv(filters, 1, name=f"{name}_project_conv")(y)
    y = _norm(y, f"{name}_project_bn")
    if stride == 1 and channels == filters:
        return layers.Add(name=f"{name}_add")([y, x])
    return y
