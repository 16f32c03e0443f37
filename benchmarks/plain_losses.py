"""The losses as they are usually written, on logits at the masks' size, for comparison."""

import keras
from keras import ops

from keras_psp.layers.resampling import resize_bilinear
from keras_psp.losses.crossentropy import near_boundary

IGNORED = 255


def crossentropy(scores, labels, valid, *, weights=1.0):
    """Mean cross-entropy, with weights of pixels."""
    losses = ops.sparse_categorical_crossentropy(labels, scores, from_logits=True)
    weights = valid * weights
    return ops.sum(weights * losses) / ops.sum(weights)


def boundary(scores, labels, valid):
    """Cross-entropy with weight 6 at most 3 pixels from another class."""
    near = near_boundary(labels, valid > 0, 3)
    return crossentropy(scores, labels, valid, weights=1 + 5 * ops.cast(near, scores.dtype))


def focal(scores, labels, valid):
    """Softmax focal loss."""
    target = ops.one_hot(labels, scores.shape[-1], dtype=scores.dtype)
    losses = -ops.sum(target * ops.log_softmax(scores, axis=-1), axis=-1)
    return ops.sum(valid * (1 - ops.exp(-losses)) ** 2 * losses) / ops.sum(valid)


def tversky(scores, labels, valid, *, alpha=0.3, beta=0.7):
    """Tversky loss of the whole batch."""
    p = ops.softmax(scores, axis=-1) * valid[..., None]
    y = ops.one_hot(labels, scores.shape[-1], dtype=scores.dtype) * valid[..., None]
    overlap = ops.sum(p * y, axis=(0, 1, 2))
    predicted, labeled = ops.sum(p, axis=(0, 1, 2)), ops.sum(y, axis=(0, 1, 2))
    wrong = alpha * (predicted - overlap) + beta * (labeled - overlap)
    losses = 1 - overlap / ops.maximum(overlap + wrong, 1e-7)
    return ops.mean(ops.where(labeled > 0, losses, ops.zeros_like(losses)))


def dice(scores, labels, valid):
    """Dice loss of the whole batch."""
    return tversky(scores, labels, valid, alpha=0.5, beta=0.5)


def lovasz(scores, labels, valid):
    """Lovász-softmax loss over the classes that occur, as its authors write it."""
    p = ops.reshape(ops.softmax(scores, axis=-1), (-1, scores.shape[-1]))
    labels, valid = ops.reshape(labels, (-1,)), ops.reshape(valid, (-1,))
    total, count = 0.0, 0.0
    for number in range(scores.shape[-1]):
        y = ops.cast(labels == number, scores.dtype) * valid
        errors = ops.abs(y - p[:, number]) * valid
        order = ops.argsort(-ops.stop_gradient(errors))
        inside, outside = ops.take(y, order), ops.take(valid - y, order)
        labeled = ops.sum(y)
        union = ops.maximum(labeled + ops.cumsum(outside), 1)
        jaccard = 1 - (labeled - ops.cumsum(inside)) / union
        steps = ops.concatenate([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        occurs = ops.cast(labeled > 0, scores.dtype)
        total = total + occurs * ops.sum(ops.take(errors, order) * steps)
        count = count + occurs
    return total / ops.maximum(count, 1)


FORMS = {
    "crossentropy": crossentropy,
    "boundary": boundary,
    "focal": focal,
    "dice": dice,
    "tversky": tversky,
    "lovasz": lovasz,
}


def plain(text):
    """The loss of `keras_psp.losses.get(text)`, a function of masks and logits at stride 8."""

    def value(masks, logits):
        scores = resize_bilinear(logits, masks.shape[1:], align_corners=True)
        valid = masks != IGNORED
        labels = ops.where(valid, masks, 0)
        valid = ops.cast(valid, keras.backend.standardize_dtype(scores.dtype))
        terms = [term.rpartition("*") for term in text.split("+")]
        return sum(float(k or 1) * FORMS[name](scores, labels, valid) for k, _, name in terms)

    return value
