"""The network at one fixed image size, in operations that are fast on phones and in 8 bits.

It computes the same function as the model's own call. With every size known, the product of a
small matrix and a map becomes a fully connected layer or a convolution with constant weights.
TFLite's XNNPACK delegate runs these in every precision and quantizes their weights per row, but
it doesn't run products with a constant on the left.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_psp.export.graph import Signature, float32_model, folded_variables, output_of
from keras_psp.layers.convolution import convolution
from keras_psp.layers.folding import folded_into
from keras_psp.layers.resampling import pooling_matrix, tap_matrices
from keras_psp.layers.winograd import winograd_convolution
from keras_psp.models.pspnet import PSPNet


def static_function(
    model: PSPNet, signature: Signature, *, float_input: bool = False, winograd: bool = False
) -> Callable[[Any], dict[str, Any]]:
    """Returns the network as a TensorFlow function of one image of the signature's `image_size`.

    It returns {output's name: tensor}. `float_input` is for a converter that quantizes the input
    itself: images are float32, whatever the signature's dtype. `winograd` computes large 3x3
    convolutions with fewer multiplications, too coarse for quantization.
    """
    model = float32_model(model)
    folded = folded_variables(model)
    pyramid = model.get_layer("pyramid_pooling")

    def serve(image):
        x = image if float_input else tf.cast(image, "float32")
        x = _normalized(model.get_layer("normalization"), x)
        with folded_into(folded, winograd_convolution if winograd else None):
            _, features = model.backbone(x, training=False)
            if pyramid.pooling == "average":
                x = _pyramid(pyramid, features, *folded[id(pyramid)])
            else:
                x = pyramid(features, training=False)
        logits = model.get_layer("classifier")(x)
        if signature.output != "classes" and model.temperature != 1:
            logits = logits / model.temperature
        logits = tf.raw_ops.ResizeBilinear(
            images=logits,
            size=signature.image_size,
            align_corners=model.align_corners,
            half_pixel_centers=not model.align_corners,
        )
        return output_of(logits, signature.output)

    return serve


def _normalized(layer, images):
    """Applies normalization and BGR order as one 1x1 convolution: 8 bits are rounded only once."""
    scale = 1 / np.array(layer.std)
    kernel = np.diag(scale)
    if layer.channel_order == "bgr":
        kernel = kernel[::-1]
    x = tf.nn.conv2d(images, kernel[None, None].astype("float32"), 1, "SAME")
    return tf.nn.bias_add(x, (-np.array(layer.mean) * scale).astype("float32"))


def _pyramid(layer, features, kernel, bias):
    """`PyramidPoolingModule` of one image, in inference."""
    kernel, channels = tf.convert_to_tensor(kernel), features.shape[-1]
    x = tf.nn.bias_add(convolution(features, kernel[:, :, :channels]), bias)
    if layer.bin_sizes:
        x += _levels_term(layer, features, kernel[:, :, channels:])
    return tf.nn.relu(x)


def _pooled(features, bin_sizes):
    """Levels (1, bins, bins, channels): each cell of each level is a weighted mean."""
    _, height, width, channels = features.shape
    means = [
        np.kron(pooling_matrix(height, bins), pooling_matrix(width, bins)) for bins in bin_sizes
    ]
    cells = _product(np.concatenate(means), tf.reshape(features, (height * width, channels)))
    levels, start = [], 0
    for bins in bin_sizes:
        level = tf.slice(cells, (start, 0), (bins * bins, channels))
        levels.append(tf.reshape(level, (1, bins, bins, channels)))
        start += bins * bins
    return levels


def _levels_term(layer, features, kernel):
    """As in `FactorizedFusion`: cells times taps, then rows and columns interpolated."""
    _, height, width, _ = features.shape
    taps, filters = layer.kernel_size, kernel.shape[-1]

    def tap_matrix(bins, target):  # (target, taps, bins)
        return np.stack(tap_matrices(bins, target, taps, align_corners=layer.align_corners), 1)

    terms, columns, offset = [], [], 0
    for index, level in enumerate(_pooled(features, layer.bin_sizes)):
        if layer.reductions:
            level = layer.reductions[index](level, training=False)
        bins, channels = level.shape[1], level.shape[-1]
        weights = kernel[:, :, offset : offset + channels]
        offset += channels
        weights = tf.transpose(weights, (2, 0, 1, 3))
        weights = tf.reshape(weights, (1, 1, channels, taps * taps * filters))
        products = tf.nn.conv2d(level, weights, 1, "SAME")
        # -> (row bin, column bin, row tap, column tap, filters)
        products = tf.reshape(products, (bins, bins, taps, taps * filters))
        products = tf.transpose(products, (2, 0, 1, 3))
        products = tf.reshape(products, (taps * bins, bins * taps * filters))
        rows = _product(tap_matrix(bins, height).reshape(height, taps * bins), products)
        terms.append(tf.reshape(rows, (height, bins * taps, filters)))
        # The taps of the columns' cells are innermost here.
        columns.append(tap_matrix(bins, width).transpose(0, 2, 1).reshape(width, bins * taps))
    terms, columns = tf.concat(terms, axis=1), np.concatenate(columns, axis=1)
    terms = tf.reshape(tf.transpose(terms, (1, 0, 2)), (columns.shape[1], height * filters))
    term = tf.reshape(_product(columns, terms), (width, height, filters))
    return tf.reshape(tf.transpose(term, (1, 0, 2)), (1, height, width, filters))


def _product(matrix, x):
    """Multiplies (targets, cells) by x (cells, channels), as a fully connected layer."""
    weights = np.asarray(matrix, "float32").T
    return tf.transpose(tf.matmul(tf.transpose(x), weights))
