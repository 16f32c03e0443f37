"""The losses in float64, written as in their papers, with all scores at full size."""

import numpy as np
import tensorflow as tf

from keras_psp.losses import (
    UpsampledCrossentropy,
    UpsampledDice,
    UpsampledFocalCrossentropy,
    UpsampledLovasz,
    UpsampledSum,
    UpsampledTversky,
)

CLASSES = 6
CLASS_WEIGHTS = [0.3, 2.0, 1.0, 0.0, 5.0, 0.7]


def example(height=33, width=41):
    """Logits (3, 6, 5, classes) and masks; class 5 doesn't occur, class 4 in one image only."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 6, 5, CLASSES)) * 2
    coarse = rng.integers(0, CLASSES - 1, (3, -(-height // 8), -(-width // 8)))
    masks = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype("uint8")
    masks[:2][masks[:2] == 4] = 0
    masks[0, :9] = 255
    masks[1, 20:, 3] = 255
    return logits, masks


def pixel_weights(masks):
    """Sample weights of pixels, some of them 0."""
    return np.random.default_rng(1).choice([0.0, 0.5, 1.0, 2.0], masks.shape)


def interpolation(source, target, align_corners):
    """Bilinear interpolation of `source` values to `target` as a matrix."""
    positions = np.arange(target) * (source - 1) / max(target - 1, 1)
    if not align_corners:
        positions = (np.arange(target) + 0.5) * source / target - 0.5
    return np.stack([np.interp(positions, np.arange(source), row) for row in np.eye(source)], 1)


def value_and_gradient(function, logits):
    """Of a function of the logits, as arrays."""
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return value.numpy(), tape.gradient(value, logits).numpy()


def reference(loss, logits, masks, sample_weight=None):
    """Value and gradient in float64 of a loss of this package, computed the plain way."""

    def function(logits):
        if isinstance(loss, UpsampledSum):
            pairs = zip(loss.weights, loss.losses, strict=True)
            return sum(weight * part(each, logits) for weight, each in pairs)
        return part(loss, logits)

    def part(loss, logits):
        aligned = loss.align_corners is not False
        rows = interpolation(logits.shape[1], masks.shape[1], aligned)
        columns = interpolation(logits.shape[2], masks.shape[2], aligned)
        scores = tf.einsum("bhwc,Hh,Ww->bHWc", logits, rows, columns)
        valid = (masks != 255).astype("float64")
        labels = np.where(masks == 255, 0, masks)
        sample = np.ones(masks.shape) if sample_weight is None else sample_weight
        factors = np.array(loss.class_weights or np.ones(CLASSES))
        plain = _PLAIN[type(loss)]
        return plain(loss, scores, np.eye(CLASSES)[labels], labels, valid, sample, factors)

    return value_and_gradient(function, np.asarray(logits, "float64"))


def _crossentropy(loss, scores, y, labels, valid, sample, factors):
    weights = valid * factors[labels]
    if loss.boundary_weight:
        weights = weights * (1 + loss.boundary_weight * near(labels, valid, loss.boundary_radius))
    target = (1 - loss.label_smoothing) * y + loss.label_smoothing / y.shape[-1]
    losses = -tf.reduce_sum(target * tf.nn.log_softmax(scores), -1)
    return tf.reduce_sum(weights * sample * losses) / weights.sum()


def near(labels, valid, radius):
    """Whether a pixel is near one of another class, pixel by pixel."""
    result = np.zeros(labels.shape)
    for image, row, column in zip(*np.nonzero(valid), strict=True):
        window = np.s_[
            image,
            max(row - radius, 0) : row + radius + 1,
            max(column - radius, 0) : column + radius + 1,
        ]
        others = labels[window][valid[window] > 0]
        result[image, row, column] = (others != labels[image, row, column]).any()
    return result


def _focal(loss, scores, y, labels, valid, sample, factors):
    if loss.activation == "softmax":
        p = tf.reduce_sum(y * tf.nn.softmax(scores), -1)
        weights = valid * factors[labels]
        losses = -((1 - p) ** loss.gamma) * tf.math.log(p)
        return tf.reduce_sum(weights * sample * losses) / weights.sum()
    p = tf.sigmoid(scores)
    p = y * p + (1 - y) * (1 - p)
    share = 1.0 if loss.alpha is None else loss.alpha * y + (1 - loss.alpha) * (1 - y)
    losses = -share * (1 - p) ** loss.gamma * tf.math.log(p)
    losses = tf.reduce_sum(factors * losses, -1) / factors.sum()
    return tf.reduce_sum(valid * sample * losses) / valid.sum()


def _tversky(loss, scores, y, labels, valid, sample, factors):
    weights = (valid * sample)[..., None]
    p = tf.nn.softmax(scores)
    true, false, missed = (
        tf.reduce_sum(weights * term, (0, 1, 2)) for term in (p * y, p * (1 - y), (1 - p) * y)
    )
    below = true + loss.alpha * false + loss.beta * missed + loss.smooth
    losses = 1 - (true + loss.smooth) / below
    losses *= (weights * y).sum((0, 1, 2)) > 0
    return (tf.reduce_sum(factors * losses) / factors.sum()) ** loss.gamma


def _lovasz(loss, scores, y, labels, valid, sample, factors):
    if loss.per_image:
        images = [
            _lovasz_flat(*(part[i : i + 1] for part in (scores, y, valid * sample)), factors)
            for i in range(len(y))
        ]
        return sum(images) / len(images)
    return _lovasz_flat(scores, y, valid * sample, factors)


def _lovasz_flat(scores, y, weights, factors):
    """Algorithm 1 of the paper; a pixel of weight w is w times two equal pixels of weight 1/2."""
    copies = np.round(2 * weights).astype(int).ravel()
    p = tf.repeat(tf.reshape(tf.nn.softmax(scores), (-1, y.shape[-1])), copies, axis=0)
    y = np.repeat(y.reshape(-1, y.shape[-1]), copies, axis=0)
    total, divisor = 0.0, 0.0
    for number in np.flatnonzero(y.any(axis=0)):
        errors = tf.abs(y[:, number] - p[:, number])
        order = np.argsort(-errors.numpy(), kind="stable")
        y_sorted = y[order, number]
        union = y_sorted.sum() + np.cumsum(1 - y_sorted)
        jaccard = 1 - (y_sorted.sum() - np.cumsum(y_sorted)) / union
        steps = np.diff(jaccard, prepend=0)
        total += factors[number] * tf.reduce_sum(tf.gather(errors, order) * steps)
        divisor += factors[number]
    return total / max(divisor, 1e-30)


_PLAIN = {
    UpsampledCrossentropy: _crossentropy,
    UpsampledFocalCrossentropy: _focal,
    UpsampledDice: _tversky,
    UpsampledTversky: _tversky,
    UpsampledLovasz: _lovasz,
}
