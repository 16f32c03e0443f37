"""Scales, rotates, blurs, recolors, mirrors, crops, mixes and erases examples for training."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_psp.data.rare_classes import chosen_position, covers_too_much, pixel_of_class

# As cv2.GaussianBlur(image, (5, 5), 0): deviation 0.3 * ((5 - 1) / 2 - 1) + 0.8 = 1.1.
BLUR = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.1**2))
BLUR = (BLUR / BLUR.sum()).astype("float32")
_MARGIN = len(BLUR) // 2


def augmented(
    image: Any,
    mask: Any,
    draw: Any,
    *,
    crop: tuple[int, int],
    scale: tuple[float, float],
    mirror: bool,
    angles: tuple[float, float],
    blur: bool,
    fill: np.ndarray,
    ignore_class: int,
    color: float = 0.0,
    max_class_share: float | None = None,
    target: Any = None,
) -> tuple[Any, Any]:
    """Returns a random crop: image (*crop, channels) float32 and mask (*crop) int32.

    Only the pixels of the crop are computed, not the whole scaled image, with a single
    interpolation: bilinear for the image and nearest neighbor for the mask.

    Args:
        image, mask: (height, width, channels), e.g. uint8, and (height, width) uint8.
        draw: (12,) or more float32 in [0, 1), for scale, mirror, row, column, whether to rotate,
            angle, whether to blur, an unused one, brightness, contrast, saturation and hue.
        crop, scale, mirror, angles, blur, color, max_class_share: as `training_batches` checks
            them.
        fill, ignore_class: (channels,) float32 color and label of pixels outside the image.
        target: None, or what the crop should show; see `drawn_for_classes`.
    """
    image, mask, draw = (tf.convert_to_tensor(part) for part in (image, mask, draw))
    size = tf.shape(mask)
    factor = scale[0] + (scale[1] - scale[0]) * draw[0]
    scaled = tf.cast(tf.round(tf.cast(size, tf.float32) * factor), tf.int32)
    scaled = tf.maximum(scaled, 1)
    slack = scaled - tf.constant(crop)
    mirrored = tf.logical_and(mirror, draw[1] < 0.5)
    angle = (angles[0] + (angles[1] - angles[0]) * draw[5]) * (np.pi / 180)
    warp = _Rotation(tf.cast(scaled, tf.float32), factor, angle, mirrored)
    turns = draw[4] < 0.5 if angles != (0.0, 0.0) else tf.constant(False)
    place, pixel = draw[2:4], tf.constant([-1, -1])
    if target is not None:
        place, pixel = target[2:4], pixel_of_class(mask, target)
        pixel = tf.where(pixel < 0, pixel, warp.moved(pixel, turns))

    def too_much(position):
        # Measured on the crop without its rotation.
        edges = tf.maximum(position, 0), tf.minimum(position + crop, scaled)
        labels = _upright_mask(mask, factor, scaled, *edges, mirrored)
        return covers_too_much(labels, max_class_share, ignore_class)

    redrawn = None if max_class_share is None else too_much
    offset = chosen_position(slack, crop, place, pixel, redrawn)
    # The part of the scaled image that is in the crop, [first, last), and that the blur needs.
    first, last = tf.maximum(offset, 0), tf.minimum(offset + crop, scaled)
    blurred = tf.logical_and(blur, draw[6] < 0.5)
    margin = tf.where(blurred, _MARGIN, 0)
    start, stop = tf.maximum(first - margin, 0), tf.minimum(last + margin, scaled)
    sides = [side + 2 * _MARGIN for side in crop]
    outside = tf.constant(np.broadcast_to(fill, [*sides, len(fill)]))

    def upright():
        part = _upright_image(image, factor, scaled, start, stop, mirrored)
        return part, _upright_mask(mask, factor, scaled, first, last, mirrored)

    def turned():
        steepest, (rows, columns) = np.deg2rad(max(np.abs(angles))), outside.shape[:2]
        most_lines = None
        if steepest <= np.pi / 4 and scale[0] >= 0.25:
            # Columns of the image that the crop can reach, and rows of the crop.
            most_lines = int((columns + rows * np.sin(steepest)) / scale[0]) + 8, rows
        part = warp.image(image, start, stop, outside, most_lines)
        return part, warp.mask(mask, first, last, ignore_class)

    if angles == (0.0, 0.0):
        part, labels = upright()
    else:
        part, labels = tf.cond(turns, turned, upright)
    if blur:
        # At the edge of the image the blur sees its border repeated.
        before, after = margin - (first - start), margin - (stop - last)
        part = tf.cond(blurred, lambda: _blurred(_bordered(part, before, after)), lambda: part)
    if color:
        part = _recolored(part, color, draw[8:12])

    def padded():
        before, after = first - offset, offset + crop - last
        height = last[0] - first[0]
        row = [outside[:height, : before[1]], part, outside[:height, : after[1]]]
        above, below = outside[: before[0], : crop[1]], outside[: after[0], : crop[1]]
        framed = tf.pad(labels, tf.stack([before, after], 1), constant_values=ignore_class)
        return tf.concat([above, tf.concat(row, 1), below], 0), framed

    part, labels = tf.cond(tf.reduce_any(slack < 0), padded, lambda: (part, labels))
    return tf.ensure_shape(part, (*crop, len(fill))), tf.ensure_shape(labels, crop)


def class_mixed(
    image: Any, mask: Any, other_image: Any, other_mask: Any, draw: Any, *, ignore_class: int
) -> tuple[Any, Any]:
    """Pastes the pixels of half of another crop's classes, with their labels.

    ClassMix (Olsson et al., WACV 2021) with true labels in place of predicted ones. Half is rounded
    down, and ignored pixels are never pasted.

    Args:
        image, mask: (height, width, channels) float32 and (height, width) int32.
        other_image, other_mask: the same for another crop.
        draw: (2,) float32 in [0, 1), which choose the classes.
        ignore_class: the label to ignore.
    """
    classes, _ = tf.unique(tf.reshape(other_mask, [-1]))
    classes = tf.boolean_mask(classes, classes != ignore_class)
    seed = tf.cast(draw * 2.0**24, tf.int32)
    # One number per class rather than per position, which the order of the pixels would change.
    scores = tf.gather(tf.random.stateless_uniform([256], seed), classes)
    highest = tf.math.top_k(scores, tf.size(classes) // 2).indices
    chosen = tf.scatter_nd(tf.gather(classes, highest)[:, None], tf.ones_like(highest), [256]) > 0
    pasted = tf.gather(chosen, other_mask)
    return tf.where(pasted[..., None], other_image, image), tf.where(pasted, other_mask, mask)


def erased(
    image: Any, mask: Any, draw: Any, *, fill: np.ndarray, ignore_class: int
) -> tuple[Any, Any]:
    """Fills a random rectangle of a crop, whose labels become the ignored class.

    Its share of the crop and its ratio of height to width are drawn from the ranges of Random
    Erasing (Zhong et al., AAAI 2020), 0.02 to 0.4 and 0.3 to 1 / 0.3.

    Args:
        image, mask: (height, width, channels) float32 and (height, width) int32.
        draw: (4,) float32 in [0, 1), for share, shape, row and column.
        fill, ignore_class: (channels,) float32 color and label of the rectangle.
    """
    image, mask, draw = (tf.convert_to_tensor(part) for part in (image, mask, draw))
    crop = tf.cast(tf.shape(mask), tf.float32)
    area = (0.02 + 0.38 * draw[0]) * crop[0] * crop[1]
    tallness = tf.exp(np.log(1 / 0.3) * (2 * draw[1] - 1))
    sides = tf.sqrt(area * tf.stack([tallness, 1 / tallness]))
    sides = tf.clip_by_value(tf.round(sides), 1, crop)
    first = tf.floor((crop - sides + 1) * draw[2:])
    rows, columns = (tf.range(side) for side in tf.unstack(crop))
    inside = ((rows >= first[0]) & (rows < first[0] + sides[0]))[:, None]
    inside &= ((columns >= first[1]) & (columns < first[1] + sides[1]))[None]
    return tf.where(inside[..., None], fill, image), tf.where(inside, ignore_class, mask)


def _upright_image(image, factor, scaled, start, stop, mirrored):
    """Returns rows and columns [start, stop) of the scaled image, float32."""
    size = tf.shape(image)[:2]
    start, stop = _unmirrored(start, stop, scaled, mirrored)
    # OpenCV's coordinates: the centers of pixels are at .5.
    ends = (tf.cast(tf.stack([start, stop - 1]), tf.float32) + 0.5) / factor - 0.5
    # The pixels around the first and the last sample, and one more where rounding could move
    # a sample beyond them, because CropAndResize has no pixels outside the window.
    low, high = tf.floor(ends[0]), tf.math.ceil(ends[1])
    low -= tf.cast((ends[0] > low) & (ends[0] < low + 1e-3), tf.float32)
    high += tf.cast((ends[1] < high) & (ends[1] > high - 1e-3), tf.float32)
    box = (ends - low) / tf.maximum(high - low, 1.0)
    low, high = tf.cast(low, tf.int32), tf.cast(high, tf.int32) + 1
    inner = tf.maximum(low, 0), tf.minimum(high, size)
    window = image[inner[0][0] : inner[1][0], inner[0][1] : inner[1][1]]
    window = tf.cast(_bordered(window, inner[0] - low, high - inner[1]), tf.float32)
    left, right = tf.unstack(tf.where(mirrored, box[::-1, 1], box[:, 1]))
    return tf.raw_ops.CropAndResize(
        image=window[None],
        boxes=[[box[0, 0], left, box[1, 0], right]],
        box_ind=[0],
        crop_size=stop - start,
    )[0]


def _upright_mask(mask, factor, scaled, first, last, mirrored):
    """Returns labels of rows and columns [first, last) of the scaled image, int32."""
    first, last = _unmirrored(first, last, scaled, mirrored)
    for axis in range(2):
        along = tf.range(first[axis], last[axis])
        if axis:
            along = tf.cond(mirrored, lambda along=along: along[::-1], lambda along=along: along)
        # As in OpenCV, a label is that of the pixel that contains its upper left corner.
        index = tf.cast(tf.cast(along, tf.float64) * (1 / tf.cast(factor, tf.float64)), tf.int32)
        mask = tf.gather(mask, tf.minimum(index, tf.shape(mask)[axis] - 1), axis=axis)
    return tf.cast(mask, tf.int32)


def _unmirrored(start, stop, scaled, mirrored):
    """Returns where rows and columns [start, stop) are before mirroring."""
    flipped = tf.stack([start[0], scaled[1] - stop[1]]), tf.stack([stop[0], scaled[1] - start[1]])
    return tuple(tf.where(mirrored, *pair) for pair in zip(flipped, (start, stop), strict=True))


class _Rotation:
    """Maps pixels of the scaled, rotated and mirrored image to pixels of the original.

    The center of rotation is (width / 2, height / 2), as in semseg's call of
    cv2.getRotationMatrix2D. `sides` is (height, width) of the scaled image, `angle` in radians
    and counterclockwise; mirroring follows the rotation.
    """

    def __init__(self, sides: Any, factor: Any, angle: Any, mirrored: Any):
        self.sides, self.factor = sides, factor
        self.cosine, self.sine = tf.cos(angle), tf.sin(angle)
        self.mirrored, self.sign = mirrored, tf.where(mirrored, -1.0, 1.0)

    def image(self, image: Any, start: Any, stop: Any, filling: Any, most_lines: Any) -> Any:
        """Returns rows and columns [start, stop), float32, with `filling` outside the image."""
        shape = stop - start
        if most_lines is None:
            image = self._warped(tf.cast(image, tf.float32), start, shape, "BILINEAR", 0.5)
        else:
            image = self._in_two_passes(image, start, shape, most_lines)
        # With flattened channels, because conditions that are broadcast over channels are slow.
        channels = filling.shape[-1]
        flat, whole = (shape[0], channels * shape[1]), (shape[0], shape[1], channels)
        outside = self._outside(start, shape, channels)
        filling = tf.reshape(filling[: shape[0], : shape[1]], flat)
        return tf.reshape(tf.where(outside, filling, tf.reshape(image, flat)), whole)

    def mask(self, mask: Any, first: Any, last: Any, ignore_class: int) -> Any:
        """Returns labels of rows and columns [first, last), int32."""
        shape = last - first
        labels = self._warped(mask[..., None], first, shape, "NEAREST", 1e-3)[..., 0]
        labels = tf.cast(labels, tf.int32)
        return tf.where(self._outside(first, shape, 1), ignore_class, labels)

    def moved(self, pixel: Any, turns: Any) -> Any:
        """Returns (row, column) in the result of a pixel of the image; rotated if it `turns`."""
        row, column = tf.unstack((tf.cast(pixel, tf.float32) + 0.5) * self.factor)
        x, y = column - self.sides[1] / 2, row - self.sides[0] / 2
        x, y = (
            tf.where(turns, self.cosine * x + self.sine * y, x) + self.sides[1] / 2,
            tf.where(turns, self.cosine * y - self.sine * x, y) + self.sides[0] / 2,
        )
        x = tf.where(self.mirrored, self.sides[1] - x, x)
        inside = tf.clip_by_value(tf.stack([y, x]), 0.0, self.sides - 1)
        return tf.cast(inside, tf.int32)

    def _origin(self, start):
        """Returns (x, y) in the scaled image of the pixel at `start`."""
        start = tf.cast(start, tf.float32)
        column = tf.where(self.mirrored, self.sides[1] - 1 - start[1], start[1])
        x, y = column - self.sides[1] / 2, start[0] - self.sides[0] / 2
        return (
            self.cosine * x - self.sine * y + self.sides[1] / 2,
            self.sine * x + self.cosine * y + self.sides[0] / 2,
        )

    def _matrix(self, start, corner):
        """Returns the matrix from (column, row, 1) of the part at `start` to the image."""
        x, y = self._origin(start)
        across = self.sign * self.cosine, -self.sine, x + corner
        down = self.sign * self.sine, self.cosine, y + corner
        matrix = tf.stack([tf.stack(across), tf.stack(down)]) / self.factor
        return matrix - tf.constant([[0, 0, 0.5]] * 2)

    def _in_two_passes(self, image, start, shape, most_lines):
        """Samples the image's columns, then the result's rows (Catmull and Smith, 1980).

        It takes half the time of `_warped`. Each sample is also a mean of four neighbors, two
        in each of two columns, but on the result's row through it instead of the image's.
        It works for angles below 45 degrees; pixels outside the image are filled later.
        """
        matrix = self._matrix(start, 0.5)
        # The part of the image that is needed, with its border repeated once.
        size, ends = tf.shape(image)[:2], tf.cast(shape - 1, tf.float32)
        corners = tf.stack([[0.0, 0.0], [ends[1], 0.0], [0.0, ends[0]], [ends[1], ends[0]]])
        corners = tf.linalg.matmul(corners, matrix[:, :2], transpose_b=True) + matrix[:, 2]
        low = tf.cast(tf.floor(tf.reduce_min(corners, 0)), tf.int32)[::-1] - 1
        high = tf.cast(tf.math.ceil(tf.reduce_max(corners, 0)), tf.int32)[::-1] + 2
        low = tf.clip_by_value(low, 0, size - 1)
        high = tf.clip_by_value(high, low + 1, size)
        window = _bordered(image[low[0] : high[0], low[1] : high[1]], [1, 1], [1, 1])
        (a, b, x), (c, d, y) = (tf.unstack(row) for row in tf.unstack(matrix))
        x -= tf.cast(low[1] - 1, tf.float32)
        y -= tf.cast(low[0] - 1, tf.float32)

        def along(lines, first, step, count, most):
            """Returns samples first, first + step ... of each line, (lines, count, channels)."""
            number, length = tf.unstack(tf.shape(lines)[:2])
            last = first + step * tf.cast(count - 1, tf.float32)
            ends = tf.stack([first, last], 1) / tf.cast(length - 1, tf.float32)
            # Always the same number of boxes, the rest outside the image: TensorFlow 2.21 warns
            # of an "Error in PredictCost()" if the number is unknown.
            ends = tf.pad(ends, [[0, most - number], [0, 0]], constant_values=-1.0)
            boxes = tf.pad(ends[..., None], [[0, 0], [0, 0], [1, 0]])
            return tf.raw_ops.CropAndResize(
                image=lines[:, None],
                boxes=tf.reshape(boxes, [most, 4]),
                box_ind=tf.minimum(tf.range(most), number - 1),
                crop_size=tf.stack([1, count]),
            )[:number, 0]

        columns = tf.cast(tf.transpose(window, (1, 0, 2)), tf.float32)
        column = tf.range(tf.shape(columns)[0], dtype=tf.float32)
        # The result's row crosses a column at y + c * (column - x - b * row) / a.
        columns = along(columns, y + c / a * (column - x), d - b * c / a, shape[0], most_lines[0])
        row = tf.range(shape[0], dtype=tf.float32)
        return along(tf.transpose(columns, (1, 0, 2)), x + b * row, a, shape[1], most_lines[1])

    def _warped(self, image, start, shape, interpolation, corner):
        matrix = self._matrix(start, corner)
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None],
            transforms=tf.concat([tf.reshape(matrix, [1, 6]), [[0.0, 0.0]]], 1),
            output_shape=shape,
            interpolation=interpolation,
            # The border is repeated so that the image's edge isn't blended with the outside,
            # which is filled afterward, exactly where the labels are.
            fill_mode="NEAREST",
            fill_value=0.0,
        )[0]

    def _outside(self, start, shape, channels):
        """Returns which pixels are outside the scaled image, (height, width * channels)."""
        x, y = self._origin(start)
        row = tf.range(shape[0])[:, None]
        column = tf.range(shape[1] * channels) // channels
        row, column = tf.cast(row, tf.float32), tf.cast(column, tf.float32)
        across = tf.round(self.sign * self.cosine * column - self.sine * row + x)
        down = tf.round(self.sign * self.sine * column + self.cosine * row + y)
        return (across < 0) | (across >= self.sides[1]) | (down < 0) | (down >= self.sides[0])


def _bordered(image, before, after):
    """Repeats the first row before[0] times, the last one after[0] times; columns likewise."""
    for axis in range(2):
        shape = list(tf.unstack(tf.shape(image)))
        edges = (image[:1], image[-1:]) if axis == 0 else (image[:, :1], image[:, -1:])
        pieces = [image]
        for edge, times, at in ((edges[0], before, 0), (edges[1], after, 2)):
            shape[axis] = times[axis]
            pieces.insert(at, tf.broadcast_to(edge, tf.stack(shape)))
        image = tf.concat(pieces, axis)
    return image


def _blurred(image):
    """Applies a 5x5 Gaussian blur to the pixels that have all their neighbors."""
    kernel = tf.tile(tf.constant(BLUR)[:, None, None, None], (1, 1, image.shape[-1], 1))
    rows = tf.nn.depthwise_conv2d(image[None], kernel, [1] * 4, "VALID")
    columns = tf.nn.depthwise_conv2d(rows, tf.transpose(kernel, (1, 0, 2, 3)), [1] * 4, "VALID")
    return columns[0]


def _recolored(image, strength, draw):
    """Changes brightness, contrast, saturation and hue, each in half of the images.

    Strength 1 has the ranges of mmsegmentation's PhotoMetricDistortion. The order is always the
    same, not one of two.
    """
    # Half of the draws leave an image as it is, the others are spread from -strength to strength.
    change = strength * tf.where(draw < 0.5, 0.0, 4 * draw - 3)
    image = (image + 32 * change[0]) * (1 + change[1] / 2)
    image = tf.clip_by_value(image / 255, 0.0, 1.0)
    image = tf.image.adjust_saturation(image, 1 + change[2] / 2)
    return 255 * tf.image.adjust_hue(image, change[3] * (18 / 180))
