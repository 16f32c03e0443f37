"""Training examples that show rare classes: which images, and where they are cropped."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_psp.arguments import checked_number

TARGETS = 4
"""Numbers per example: its class, or -1 for none, and three in [0, 1) for the crop's position."""

_TRIES = 10
# Steps of an additive sequence that fills the unit square evenly: Roberts' R2, from the root of
# x ** 3 = x + 1.
_STEP = (0.7548776662466927, 0.5698402909980532)


def checked_rare_classes(
    share: Any, class_pixels: Any, source: Any, count: int
) -> tuple[float, np.ndarray] | None:
    """Returns (share, class_pixels), or None if the share is 0; raises ValueError if invalid."""
    share = checked_number("rare_classes", share, least=0, most=1)
    if not share:
        return None
    shape = (count, source.num_classes)
    pixels = np.empty(0) if class_pixels is None else np.asarray(class_pixels)
    if pixels.shape != shape or not pixels.any():
        raise ValueError(
            f"rare_classes needs class_pixels, the pixels of each class in each example, of shape "
            f"{shape} and not all 0; it has shape {pixels.shape}."
        )
    return share, pixels


def drawn_for_classes(
    order: np.ndarray, class_pixels: np.ndarray, share: float, *, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces a share of an epoch's examples by ones that are drawn for a class.

    Every class of the split is drawn equally often, then one of its images, as in rare class
    sampling (Hoyer et al., DAFormer, CVPR 2022) without its temperature.

    Args:
        order: (examples,) indices of the epoch's examples.
        class_pixels: (all examples, num_classes) number of pixels of each class.
        share: share of the examples to replace, 0 to 1.
        seed, epoch: what the draw depends on.

    Returns:
        The new order, and (examples, `TARGETS`) float32, see `TARGETS`.
    """
    random = np.random.default_rng([seed, epoch, 1])
    draws = random.random((len(order), 3 + TARGETS), dtype=np.float32)
    images = [np.flatnonzero(pixels) for pixels in np.asarray(class_pixels).T]
    present = [index for index, of_class in enumerate(images) if of_class.size]
    order, targets = order.copy(), draws[:, 3:].copy()
    targets[:, 0] = -1
    for place in np.flatnonzero(draws[:, 0] < share):
        chosen = present[int(draws[place, 1] * len(present))]
        of_class = images[chosen]
        order[place] = of_class[int(draws[place, 2] * len(of_class))]
        targets[place, 0] = chosen
    return order, targets


def chosen_position(
    slack: Any, crop: tuple[int, int], draw: Any, pixel: Any, too_much: Callable[[Any], Any] | None
) -> Any:
    """Returns (row, column) where a crop begins in the scaled image, int32.

    Args:
        slack: (2,) int32, by how much the scaled image is larger than the crop.
        crop: (height, width).
        draw: (2,) in [0, 1).
        pixel: (2,) int32, a pixel of the scaled image that the crop must show; negative for any.
        too_much: returns whether a class covers too much of the crop that begins at a position; up
            to ten positions are tried (mmsegmentation's RandomCrop with `cat_max_ratio`). None
            takes the first one.
    """
    import tensorflow as tf

    low, high = tf.zeros_like(slack), slack
    shown = tf.reduce_all(pixel >= 0)
    low = tf.where(shown, tf.clip_by_value(pixel - crop + 1, 0, slack), low)
    high = tf.where(shown, tf.clip_by_value(pixel, 0, slack), high)

    def at(attempt):
        place = tf.math.floormod(draw + tf.cast(attempt, tf.float32) * _STEP, 1.0)
        place = tf.cast(tf.cast(high - low + 1, tf.float32) * place, tf.int32)
        # Half of the padding on either side, the odd pixel last, or an even position.
        return tf.where(slack < 0, -(-slack // 2), tf.minimum(low + place, high))

    if too_much is None:
        return at(0)
    last = tf.while_loop(
        lambda attempt: (attempt < _TRIES - 1) & too_much(at(attempt)),
        lambda attempt: (attempt + 1,),
        (tf.constant(0),),
        parallel_iterations=1,
    )[0]
    return at(last)


def pixel_of_class(mask: Any, target: Any) -> Any:
    """Returns (row, column) of a pixel of the target's class, int32; (-1, -1) if there is none.

    Args:
        mask: (height, width) labels.
        target: (`TARGETS`,), see `drawn_for_classes`.
    """
    import tensorflow as tf

    pixels = tf.cast(tf.where(tf.equal(tf.cast(mask, tf.float32), target[0])), tf.int32)
    count = tf.shape(pixels)[0]
    index = tf.cast(tf.cast(count, tf.float32) * target[1], tf.int32)
    missing = tf.constant([[-1, -1]])
    return tf.concat([pixels, missing], 0)[tf.where(count > 0, tf.minimum(index, count - 1), 0)]


def covers_too_much(labels: Any, largest: float, ignore_class: int) -> Any:
    """Returns whether one class covers more of the labeled pixels than the `largest` share.

    A crop without labels covers too much as well.
    """
    import tensorflow as tf

    counts = tf.math.bincount(tf.reshape(labels, [-1]), minlength=256, maxlength=256)
    counts = tf.tensor_scatter_nd_update(counts, [[ignore_class]], [0])
    total = tf.cast(tf.reduce_sum(counts), tf.float32)
    return (total < 1) | (tf.cast(tf.reduce_max(counts), tf.float32) > largest * total)
