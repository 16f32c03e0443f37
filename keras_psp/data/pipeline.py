"""Batches for training and evaluation.

A source has `class_names`, `palette`, `ignore_class`, `num_classes`, `splits`,
`count(split)` and `examples(split)`, a dataset of images (height, width, 3) uint8 and masks
(height, width) uint8. If it has the attributes `channels` and `image_dtype`, images are (height,
width, channels) of that dtype instead. Examples are `ImageFolder`, `GeneratedScenes` or your own.
With `example(split, index)`, a source can be read in any order and needn't be kept in memory; with
`sizes(split)`, images of the same size can be batched for evaluation.
"""

import itertools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from keras_psp.arguments import LARGEST_SIDE, checked_integer, checked_number, checked_pair
from keras_psp.data.bands import channels_of, image_dtype_of
from keras_psp.data.devices import leave_gpus_to_the_backend
from keras_psp.data.python_calls import map_python, until_exit
from keras_psp.data.rare_classes import TARGETS, checked_rare_classes, drawn_for_classes
from keras_psp.data.reader import reader
from keras_psp.imagenet import IMAGENET_MEAN

if TYPE_CHECKING:
    import tensorflow as tf

# Random numbers per example: 12 for `keras_psp.data.augmentation.augmented`, then whether to erase
# and 4 for `erased`, whether to mix and 2 for `class_mixed`.
_DRAWS = 20


def training_batches(
    source: Any,
    *,
    split: str = "train",
    batch_size: int,
    crop_size: int | tuple[int, int],
    scale: tuple[float, float] = (0.5, 2.0),
    mirror: bool = True,
    rotate: float | tuple[float, float] = 0.0,
    blur: bool = False,
    color: float = 0.0,
    max_class_share: float | None = None,
    rare_classes: float = 0.0,
    class_pixels: ArrayLike | None = None,
    cutout: float = 0.0,
    class_mix: float = 0.0,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
    cache: bool | Literal["auto"] = "auto",
    fill: Sequence[float] = IMAGENET_MEAN,
    first_epoch: int = 0,
    first_step: int = 0,
    epochs: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> "tf.data.Dataset":
    """Returns shuffled, randomly scaled, rotated, blurred, mirrored and cropped batches.

    The augmentation is that of semseg (util/transform.py and tool/train.py), in the same order:
    scale by a factor drawn uniformly from `scale`; rotate about the center, blur and mirror,
    each with a probability of one half; crop at a uniformly drawn position. Images smaller
    than the crop are centered, and the rest gets `fill` and the ignored class. Only the pixels
    of the crop are computed, with a single interpolation (bilinear for images, nearest neighbor
    for labels). Like OpenCV in semseg, it skips pixels at scales below about 0.5; to train at a
    much smaller size, use `image_size`, which averages them.

    An epoch depends only on `seed` and its number, so that `first_epoch=7, first_step=30`
    resumes exactly there, without reading what comes before. By default each pass over the
    dataset (`fit` makes one per epoch) is the next epoch. With `epochs` a pass contains all of
    them, from the first step to the last, each time.

    To resume within an epoch, call `fit` once for the rest of that epoch and once for the
    others, with `epochs` each time: Keras assumes that every pass is as long as the first, and
    under `tf.distribute` it starts a pass just to look at the shapes.

        fit(training_batches(..., first_epoch=7, first_step=30, epochs=8),
            initial_epoch=7, epochs=8)
        fit(training_batches(..., first_epoch=8, epochs=20),
            initial_epoch=8, epochs=20, steps_per_epoch=steps)

    Args:
        source: see the module.
        split: one of `source.splits`.
        batch_size: examples per batch, over all workers; the remainder of an epoch is dropped.
        crop_size: (height, width) in pixels, or one number for both.
        scale: smallest and largest factor.
        mirror: whether to mirror half of the examples left to right.
        rotate: largest angle in degrees to either side, or (smallest, largest),
            counterclockwise; 10 in the paper, 0 for no rotation.
        blur: whether to blur half of the examples, as in the paper (Gaussian, 5x5 pixels,
            deviation 1.1).
        color: strength of random changes of brightness, contrast, saturation and hue, each in
            half of the examples; 1 for the ranges of mmsegmentation, 0 for none as in the paper.
        max_class_share: largest share of a crop's labeled pixels that one class may cover; up to
            ten positions are tried (mmsegmentation's `cat_max_ratio`, which is 0.75 there). None
            takes the first.
        rare_classes: share of the examples that are drawn for a class: an image that contains it,
            cropped around one of its pixels. All classes are drawn equally often. These examples
            replace others of the epoch, which otherwise stays the same.
        class_pixels: (examples, num_classes) number of pixels of each class in each example of the
            split; `rare_classes` needs them.
        cutout: share of the examples in which a random rectangle, 0.02 to 0.4 of the crop, is
            filled with `fill` and ignored (Random Erasing); 0 in the paper.
        class_mix: share of the examples into which the pixels of half of the classes of the next
            example's crop are pasted, with their labels (ClassMix); 0 in the paper. The next
            example is that in the epoch's order, which wraps around; it is read a second time.
        seed: any integer >= 0.
        image_size: (height, width) to which examples are resized first: images with antialiasing,
            labels with nearest neighbor.
        cache: whether to keep decoded examples in memory, after `image_size`; 0.7 MB each for
            480x360. "auto" keeps the first ones, up to a quarter of the memory that is free at
            the start. A source without `example` is kept as a whole, and refused with `False`.
        fill: color of pixels outside the image, RGB 0 to 255, by default ImageNet's mean as in
            semseg; for other bands, one number per band.
        first_epoch: number of the first epoch.
        first_step: number of the first batch in the first epoch; later epochs are complete.
        epochs: number of the epoch to stop before, as in `fit`; None for one epoch per pass.
        shard: (index, count) of this worker, which reads and gets `batch_size // count`
            examples of every batch, so that all workers together get what one would.

    Returns:
        A dataset of images (batch_size // workers, height, width, channels) float32, RGB 0 to 255
        or the values in the files, and masks (batch_size // workers, height, width) int32.
    """
    import tensorflow as tf

    from keras_psp.data.augmentation import augmented, class_mixed, erased

    leave_gpus_to_the_backend()
    batch_size, steps = _checked_steps(source, split, batch_size)
    seed = checked_integer("seed", seed, least=0)
    first_epoch = checked_integer("first_epoch", first_epoch, least=0)
    first_step = _checked_step("first_step", first_step, steps)
    if epochs is not None:
        epochs = checked_integer("epochs", epochs, least=first_epoch + 1)
    part = _part_of_batch(batch_size, shard)
    crop = _checked_size("crop_size", crop_size, square=True)
    if image_size is not None:
        image_size = _checked_size("image_size", image_size)
    scale, angles = _checked_scale(scale), _checked_angles(rotate)
    color = checked_number("color", color, least=0, most=2)
    channels, dtype = channels_of(source), image_dtype_of(source)
    cutout = checked_number("cutout", cutout, least=0, most=1)
    class_mix = checked_number("class_mix", class_mix, least=0, most=1)
    filling = np.asarray(fill, np.float32)
    if channels == 3 and not (filling.shape == (3,) and np.all((filling >= 0) & (filling <= 255))):
        raise ValueError(f"fill is {fill!r}; it must be three numbers from 0 to 255.")
    if filling.shape != (channels,) or not np.all(np.isfinite(filling)):
        raise ValueError(
            f"fill is {fill!r}; it must be one number per band, {channels}, e.g. their means "
            "(`keras_psp.data.band_statistics`)."
        )
    if color and channels != 3:
        raise ValueError(
            f"color is {color:g}, but the images have {channels} bands; colors are changed in RGB "
            "only, so give color=0."
        )
    if cache not in (True, False, "auto"):
        raise ValueError(f'cache is {cache!r}; it must be True, False or "auto".')
    if max_class_share is not None:
        max_class_share = checked_number("max_class_share", max_class_share, above=0, most=1)
    count = source.count(split)
    rare = checked_rare_classes(rare_classes, class_pixels, source, count)
    columns = _DRAWS + (TARGETS if rare else 0)
    read = reader(source, split, image_size=image_size, cache=cache)
    passes = itertools.count(first_epoch)

    def plan(epoch):
        epoch = next(passes) if epochs is None else int(epoch)
        order, draws = _plan(count, batch_size, rare, seed=seed, epoch=epoch)
        start = first_step if epoch == first_epoch else 0
        # Each example, with the next one after it if they are mixed.
        orders, all_draws = [order], [draws]
        if class_mix:
            orders.append(np.roll(order, -1))
            all_draws.append(np.roll(draws.reshape(-1, columns), -1, 0).reshape(draws.shape))
        order, draws = np.stack(orders, -1), np.stack(all_draws, -2)
        return (
            order[start:, part].reshape(-1, len(orders)),
            draws[start:, part].reshape(-1, len(orders), columns),
        )

    call = until_exit(lambda index: read(int(index)))

    def crop_of(index, draw):
        image, mask = tf.py_function(call, [index], [tf.as_dtype(dtype), tf.uint8])
        image = tf.ensure_shape(image, (None, None, channels))
        mask = tf.ensure_shape(mask, (None, None))
        return augmented(
            image,
            mask,
            draw[:_DRAWS],
            crop=crop,
            scale=scale,
            mirror=mirror,
            angles=angles,
            blur=blur,
            color=color,
            fill=filling,
            ignore_class=source.ignore_class,
            max_class_share=max_class_share,
            target=draw[_DRAWS:] if rare else None,
        )

    def example(indices, draws):
        draw, ignore = draws[0], {"ignore_class": source.ignore_class}
        image, mask = crop_of(indices[0], draw)
        if class_mix:

            def mixed():
                other = crop_of(indices[1], draws[1])
                return class_mixed(image, mask, *other, draw[18:20], **ignore)

            image, mask = tf.cond(draw[17] < class_mix, mixed, lambda: (image, mask))
        if cutout:

            def with_hole():
                return erased(image, mask, draw[13:17], fill=filling, **ignore)

            image, mask = tf.cond(draw[12] < cutout, with_hole, lambda: (image, mask))
        return tf.ensure_shape(image, (*crop, channels)), tf.ensure_shape(mask, crop)

    # `from_generator` would make glibc return all memory to the system after each step
    # (TensorFlow 2.21, generator_dataset_op.cc), a quarter of a training's CPU time.
    last = first_epoch + 1 if epochs is None else epochs
    numbers = tf.data.Dataset.range(first_epoch, last)
    shape = (2 if class_mix else 1, columns)
    plans = numbers.map(lambda epoch: _planned(until_exit(plan), epoch, shape))
    examples = plans.unbatch().map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(part.stop - part.start, drop_remainder=True)
    length = steps if epochs is None else (epochs - first_epoch) * steps - first_step
    if epochs is not None or not first_step:  # otherwise the first pass is shorter than others
        batches = batches.apply(tf.data.experimental.assert_cardinality(length))
    return batches.prefetch(tf.data.AUTOTUNE)


def _planned(plan, epoch, shape):
    """Calls a function that plans an epoch, and returns the examples' indices and draws."""
    import tensorflow as tf

    order, draws = tf.numpy_function(plan, [epoch], [tf.int64, tf.float32])
    each, columns = shape
    return tf.ensure_shape(order, (None, each)), tf.ensure_shape(draws, (None, each, columns))


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of the examples in an epoch of `training_batches`.

    Args:
        count: number of examples in the split.
        seed: as for `training_batches`.
        epoch: number of the epoch, from 0.

    Returns:
        (count,) int64 indices, each once, which batches take in turn.
    """
    return _shuffled(count, seed, epoch)[0]


def batch_examples(
    source: Any,
    *,
    split: str = "train",
    batch_size: int,
    seed: int = 0,
    epoch: int,
    step: int,
    rare_classes: float = 0.0,
    class_pixels: ArrayLike | None = None,
    shard: tuple[int, int] = (0, 1),
) -> list[int]:
    """Returns the indices of the examples in a batch of `training_batches`, in order.

    If the source has files, `source.paths(split)[index]` returns their paths.

    Args:
        source, split, batch_size, seed, rare_classes, class_pixels: as for `training_batches`.
        epoch: number of the epoch, from 0.
        step: number of the batch in the epoch, from 0.
        shard: (index, count) of a worker; by default the whole batch.
    """
    batch_size, steps = _checked_steps(source, split, batch_size)
    seed = checked_integer("seed", seed, least=0)
    epoch = checked_integer("epoch", epoch, least=0)
    step = _checked_step("step", step, steps)
    part = _part_of_batch(batch_size, shard)
    count = source.count(split)
    rare = checked_rare_classes(rare_classes, class_pixels, source, count)
    order, _ = _plan(count, batch_size, rare, seed=seed, epoch=epoch)
    return order[step, part].tolist()


def _shuffled(count, seed, epoch):
    """Returns the order of an epoch, and the generator for everything else."""
    # The same numbers on every device, drawn before the map, whose threads have no order.
    random = np.random.default_rng([seed, epoch])
    return random.permutation(count), random


def _plan(count, batch_size, rare=None, *, seed, epoch):
    """Draws an epoch: indices (steps, batch_size) and numbers (steps, batch_size, columns)."""
    order, random = _shuffled(count, seed, epoch)
    order = order[: len(order) - len(order) % batch_size]
    draws = [random.random((order.size, 4), dtype=np.float32) for _ in range(_DRAWS // 4)]
    if rare:
        order, targets = drawn_for_classes(order, rare[1], rare[0], seed=seed, epoch=epoch)
        draws.append(targets)
    order = order.reshape(-1, batch_size)
    return order, np.concatenate(draws, 1).reshape(*order.shape, -1)


def evaluation_batches(
    source: Any,
    *,
    split: str,
    batch_size: int = 8,
    image_size: tuple[int, int] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> "tf.data.Dataset":
    """Returns batches of a split in order, with whole images.

    Masks are never resized: a network that sees smaller images is evaluated with its logits
    resized to the masks' size. If the images of the split differ in size, or their sizes are
    unknown (no `sizes`, and no fixed shape of the examples), every batch is one image.

    Args:
        source: see the module.
        split: one of `source.splits`.
        batch_size: examples per batch; the last batch may be smaller.
        image_size: (height, width) to which the images are resized, with antialiasing.
        shard: (index, count) of this worker, which gets one of `count` parts of about equal
            size; some are empty if there are fewer examples than workers.

    Returns:
        A dataset of images (batch, height, width, channels) float32, RGB 0 to 255 or the values
        in the files, and masks (batch, label height, label width) int32.
    """
    import tensorflow as tf

    leave_gpus_to_the_backend()
    batch_size = checked_integer("batch_size", batch_size, least=1)
    if image_size is not None:
        image_size = _checked_size("image_size", image_size)
    index, workers = _checked_shard(shard)
    count = source.count(split)
    first, last = index * count // workers, (index + 1) * count // workers
    examples = source.examples(split)
    size = _common_size(source, split, examples)
    sides = size or (None, None)
    if workers > 1 and hasattr(source, "example"):
        examples = map_python(
            tf.data.Dataset.range(first, last),
            lambda index: tuple(map(np.asarray, source.example(split, int(index)))),
            (*sides, channels_of(source)),
            sides,
            image_dtype=image_dtype_of(source),
        )
    elif workers > 1:
        examples = examples.skip(first).take(last - first)

    def prepared(image, mask):
        image = tf.cast(tf.ensure_shape(image, (*sides, channels_of(source))), tf.float32)
        mask = tf.cast(tf.ensure_shape(mask, sides), tf.int32)
        if image_size is not None:
            image = tf.image.resize(image, image_size, antialias=True)
        return image, mask

    examples = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size if size else 1).prefetch(tf.data.AUTOTUNE)


def _common_size(source, split, examples):
    """Returns (height, width) if all images of the split have the same size, else None."""
    if hasattr(source, "sizes"):
        sizes = set(source.sizes(split))
        return sizes.pop() if len(sizes) == 1 else None
    shape = examples.element_spec[1].shape
    return tuple(shape) if shape.is_fully_defined() else None


def _checked_steps(source, split, batch_size):
    """Returns batch_size as an integer, and the number of batches in the split."""
    batch_size = checked_integer("batch_size", batch_size, least=1)
    count = source.count(split)
    if count < batch_size:
        raise ValueError(
            f"Split {split!r} has {count} example(s), fewer than batch_size "
            f"{batch_size}; set batch_size to {count} or less, or add examples."
        )
    return batch_size, count // batch_size


def _checked_step(name, step, steps):
    step = checked_integer(name, step, least=0)
    if step >= steps:
        raise ValueError(
            f"{name} is {step}, but an epoch has {steps} step(s); it must be from 0 to {steps - 1}."
        )
    return step


def _part_of_batch(batch_size, shard):
    """Returns the slice of every batch that belongs to this worker."""
    index, count = _checked_shard(shard)
    if batch_size % count:
        raise ValueError(
            f"batch_size {batch_size} can't be divided among {count} workers; it "
            f"counts the examples of all workers together and must be a multiple of {count}."
        )
    share = batch_size // count
    return slice(index * share, (index + 1) * share)


def _checked_shard(shard):
    needed = "(index, count) of this worker, 0 <= index < count"
    return checked_pair("shard", shard, shard, operator.index, lambda i, n: 0 <= i < n, needed)


def _checked_size(name, size, *, square=False):
    sides = (size, size) if square and not np.iterable(size) else size
    needed = f"two integers from 1 to {LARGEST_SIDE}, (height, width)"
    needed += ", or one for both" if square else ""
    return checked_pair(
        name, size, sides, operator.index, lambda *n: 1 <= min(n) <= max(n) <= LARGEST_SIDE, needed
    )


def _checked_scale(scale):
    needed = "(smallest, largest) with 0 < smallest <= largest"
    return checked_pair("scale", scale, scale, float, lambda a, b: 0 < a <= b < math.inf, needed)


def _checked_angles(rotate):
    needed = "an angle from 0 to 180 degrees, or (smallest, largest) from -180 to 180"
    angles = rotate if np.iterable(rotate) else (sign * rotate for sign in (-1, 1))
    return checked_pair("rotate", rotate, angles, float, lambda a, b: -180 <= a <= b <= 180, needed)
