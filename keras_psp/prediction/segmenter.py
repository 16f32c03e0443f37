"""Segments images of any size: scales, sliding windows and flip, averaged."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_psp.data.images import MAX_PIXELS
from keras_psp.layers.resampling import interpolation_matrix
from keras_psp.models.arrays import check_values, warn_of_values
from keras_psp.models.bands import image_statistics
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet
from keras_psp.prediction.averaging import column_taps, combined, compiled, row_parts
from keras_psp.prediction.confidence import (
    Confidence,
    best_and_confidence,
    best_classes,
    log_probabilities,
    with_temperature,
)
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.windows import Axis, resize_taps, resized, scaled_size
from keras_psp.progress import ahead

# Probabilities in memory at a time: 32 MB of float32, and a few temporaries of that size.
_BLOCK_ELEMENTS = 2**23
_MOST_PIXELS = 2 * MAX_PIXELS  # of an image at one scale, 2 GB as float32
_WIDTH_STEP = 64  # JAX compiles for each width; widths are rounded up to this


class Segmenter:
    """Predicts the class of every pixel of images of any size, as the authors' test code does.

    Each image is resized to every scale, padded with the mean color if it is smaller than the
    window, and covered with overlapping windows. The softmax of each window's upsampled logits
    (with `flip`, its mean with that of the mirrored window) is averaged where windows overlap,
    resized to the image and averaged over the scales (semseg/tool/test.py). With `crop=None`
    there is a single window, the whole image.

    All steps between the network's low-resolution logits and the classes run on a few rows at a
    time, so probabilities at full size are never in memory and those of the padding are never
    computed. The result is exact except for the order of float32 sums.

    Args:
        model: a `keras_psp.PSPNet`.
        protocol: a `Protocol`. Windows of several images share a batch; with `crop=None`, only
            images of the same size do.
        fields: fields of `Protocol`, as keyword arguments instead of `protocol`.

    Raises:
        ValueError: if a value is out of range, or both a protocol and fields are given.

    Example:
        segmenter = Segmenter(keras_psp.PSPNet.from_preset(name), flip=True, base_size=512)
        (classes,) = segmenter.classes([image])
    """

    def __init__(
        self,
        model: PSPNet,
        protocol: Protocol | None = None,
        **fields: Unpack[ProtocolFields],
    ):
        if protocol is not None and fields:
            raise ValueError(
                f"both a protocol and {', '.join(fields)} are given; set "
                f"{'it' if len(fields) == 1 else 'them'} in the protocol."
            )
        self.model = model
        self.protocol = protocol or Protocol(**fields)
        if self.protocol.base_size == "auto":
            self.protocol = dataclasses.replace(self.protocol, base_size=None)
        if self.protocol.antialias == "auto":
            self.protocol = dataclasses.replace(self.protocol, antialias=False)
        crop, least = self.protocol.crop, smallest_side(model)
        if crop is not None and crop < least:
            raise ValueError(
                f"crop={crop}; windows need at least {least} pixels per side, for this network's "
                f"bin_sizes of {model.bin_sizes}."
            )
        self._mean = image_statistics(model)[0].astype(np.float32)

    def classes(self, images: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Predicts the class of every pixel.

        Args:
            images: each (height, width, channels) with the network's channels, e.g. RGB 0 to
                255, of any size.

        Returns:
            For each image, (height, width) uint8, or uint16 for more than 256 classes.
        """
        return list(self.stream(images))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields what `classes` returns, one image at a time.

        Reads ahead no more images than one batch of windows takes, plus two that are resized
        while the network runs. (All scales of a 2048x1024 image up to 1.75 take 0.2 GB.)
        """
        for classes, _, _ in self.outputs(images):
            yield classes

    def single_view(self, image: np.ndarray) -> "SingleView":
        """Returns an image as the network sees it, without running the network.

        Args:
            image: (height, width, channels), e.g. RGB 0 to 255.

        Raises:
            ValueError: if the protocol has several views, or the image is invalid.
        """
        self.protocol.check_single_view()
        return SingleView(self, self._prepared(image))

    def outputs(
        self, images: Iterable[np.ndarray], *, probabilities: bool = False, confidence: bool = False
    ) -> "Iterator[tuple[np.ndarray, np.ndarray | None, Confidence | None]]":
        """Yields the classes of one image at a time, with probabilities and confidence.

        The network runs once, whatever is requested. Only `probabilities` take memory for all
        classes at full size.

        Args:
            images: as for `classes`.
            probabilities: also yield those of every class, see `probabilities`.
            confidence: also yield the maps of `Confidence`.

        Yields:
            Classes as in `classes`; probabilities, (height, width, num_classes) float32, or None;
            and the confidence or None.
        """
        for image, logits in self._scored(images):
            yield self._output(image, logits, probabilities, confidence)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Predicts the probability of every class at every pixel, at the model's `temperature`.

        Args:
            image: (height, width, channels), e.g. RGB 0 to 255.

        Returns:
            (height, width, num_classes) float32.
        """
        ((_, probabilities, _),) = self.outputs([image], probabilities=True)
        assert probabilities is not None
        return probabilities

    def log_probabilities_at(
        self, images: Iterable[np.ndarray], pixels: Iterable[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Yields log probabilities, at temperature 1, of some pixels of each image.

        Args:
            images: as for `classes`.
            pixels: for each image, increasing integers, row * width + column.

        Yields:
            (pixels, num_classes) float32; probabilities are averaged over scales and windows
            before the logarithm is taken.
        """
        for (image, logits), indices in zip(self._scored(images), pixels, strict=True):
            rows, columns = np.divmod(np.asarray(indices), image.width)
            parts = []
            for first, scores in self._blocks(image, logits):
                block = ops.convert_to_numpy(scores)
                begin, end = np.searchsorted(rows, (first, first + len(block)))
                chosen = block[rows[begin:end] - first, columns[begin:end]]
                parts.append(log_probabilities(chosen, logits=self._one_view(image)))
            yield np.concatenate(parts)

    # From images to the logits of their windows.

    def _scored(self, images: Iterable[np.ndarray]) -> "Iterator[tuple[_Image, Any]]":
        """Yields (image, logits of its windows) in order.

        logits[scale][row of windows] has shape (columns of windows, 1 + flip, h, w, classes).
        """
        waiting: list[_Image] = []
        pending: list[tuple[_Window, np.ndarray]] = []
        for image in ahead(self._prepared, images, threads=1):
            waiting.append(image)
            for window in image.windows():
                pixels = image.cut(window)
                if pending and pending[0][1].shape != pixels.shape:
                    self._run(pending)
                pending.append((window, pixels))
                if len(pending) >= self.protocol.batch_size:
                    self._run(pending)
            while waiting and waiting[0].missing == 0:
                yield waiting[0], waiting.pop(0).logits
        self._run(pending)
        for image in waiting:
            yield image, image.logits

    def _prepared(self, image):
        image = np.asarray(image)
        channels = self.model.input_channels
        if image.ndim != 3 or image.shape[2] != channels or 0 in image.shape:
            kind = "3), RGB" if channels == 3 else f"{channels}), as this network's"
            # A source reads RGB unless it is opened for other bands.
            remedy = f"; open the data with channels={channels} (--channels {channels})"
            remedy = remedy if image.shape[2:] == (3,) else ""
            raise ValueError(
                f"image has shape {image.shape}; it must be (height, width, {kind}{remedy}."
            )
        check_values(self.model, image[None], warn_of_values)
        self._check_views(*image.shape[:2])
        return _Image(image, self.protocol, self._mean)

    def _check_views(self, height, width):
        """Raises ValueError if an image would become too large for the memory."""
        protocol = self.protocol
        for scale in protocol.scales:
            size = scaled_size(height, width, scale, protocol.base_size)
            high, wide = (max(side, protocol.crop or 0) for side in size)
            if high * wide > _MOST_PIXELS:
                raise ValueError(
                    f"an image of {width}x{height} would become one of {wide}x{high} with "
                    f"scale {scale:g}, base_size={protocol.base_size} and crop={protocol.crop}, "
                    f"more than {_MOST_PIXELS:,} pixels; choose smaller ones."
                )

    def _run(self, pending):
        """Runs the network on the pending windows and clears the list."""
        if not pending:
            return
        batch = np.stack([pixels for _, pixels in pending])
        count = len(batch)
        if keras.backend.backend() == "jax" and self.protocol.crop:
            # A smaller batch would be compiled separately.
            batch = np.pad(batch, [(0, self.protocol.batch_size - count), *[(0, 0)] * 3])
        fixed_size = self.protocol.crop is not None
        logits = self.model.predict_low_resolution(batch, fixed_size=fixed_size)[:count]
        for (window, _), view in zip(pending, logits, strict=True):
            # Mirrored back here, while the map is small.
            window.image.take(window, view[:, ::-1] if window.mirrored else view)
        pending.clear()

    # From logits to probabilities.

    def block_rows(self, image: Any) -> int:
        """Number of rows whose probabilities are computed at a time."""
        parts = [scale.grid for scale in image.scales]
        most = max(len(columns.starts) * columns.crop * rows.length for rows, columns in parts)
        most = most * (1 + self.protocol.flip) * self.model.num_classes / image.height
        return int(np.clip(_BLOCK_ELEMENTS // most, 4, max(4, image.height)))

    def _one_view(self, image):
        """Whether `_blocks` yields logits: of a single window at the image's own size."""
        one = len(image.scales) == 1 and not self.protocol.flip
        return one and image.scales[0].plain

    def _output(self, image, logits, probabilities=False, confidence=False):
        """What `outputs` yields for one image."""
        size, num_classes = (image.height, image.width), self.model.num_classes
        classes: np.ndarray = np.empty(size, np.uint8 if num_classes <= 256 else np.uint16)
        every = np.empty((*size, num_classes), np.float32) if probabilities else None
        are_logits = self._one_view(image) and not probabilities
        options = {"logits": are_logits, "temperature": self.model.temperature}
        views = len(image.scales) * (1 + self.protocol.flip)
        apart = confidence and views > 1
        maps: np.ndarray = np.empty((3 + apart, *size) if confidence else 0, np.float32)
        for first, scores in self._blocks(image, logits, normalize=not are_logits, apart=apart):
            views_scores, scores = (scores, sum(scores)) if apart else ([], scores)
            if confidence:
                best, measures = self._compiled(best_and_confidence, **options)(scores)
                for target, rows in zip(maps, ops.convert_to_numpy(measures), strict=False):
                    image.put(rows, first, target)
            else:
                best = self._compiled(best_classes)(scores)
            best = ops.convert_to_numpy(best)
            image.put(best, first, classes)
            if apart:
                own = (self._compiled(best_classes)(view) for view in views_scores)
                differing = sum(ops.convert_to_numpy(view) != best for view in own)
                image.put(differing / views, first, maps[3])
            if every is not None:
                tempered = scores
                if self.model.temperature != 1:
                    tempered = self._compiled(with_temperature, **options)(scores)
                image.put(ops.convert_to_numpy(tempered), first, every)
        return classes, every, Confidence(*maps) if confidence else None

    def _blocks(self, image, logits, *, normalize=False, apart=False, first=0, last=None):
        """Yields (first row, probabilities), the latter (rows, width, classes).

        Rows and columns may extend beyond the image. Without `normalize`, the values may be
        other scores with the same order, see `_one_view`. With `apart`, it yields a list instead,
        one array per scale and mirror image, which add up to the probabilities. Only rows from
        `first`, a multiple of `block_rows`, to `last` are computed, and need their logits.
        """
        parts = [scale.grid for scale in image.scales]
        normalize = normalize or not self._one_view(image)
        views = 1 + self.protocol.flip
        step = self.block_rows(image)
        padded = keras.backend.backend() == "jax"
        width = -(-image.width // _WIDTH_STEP) * _WIDTH_STEP if padded else image.width
        column_parts = [column_taps(columns, image.width, width) for _, columns in parts]
        upsampling = [
            [
                interpolation_matrix(
                    size, axis.crop, align_corners=self.model.align_corners
                ).astype(np.float32)
                for axis, size in zip(grid, known.shape[2:4], strict=True)
            ]
            for grid, maps in zip(parts, logits, strict=True)
            for known in [next(windows for windows in maps if windows is not None)]
        ]
        share = 1 / (len(parts) * views)
        together = [slice(view, view + 1) for view in range(views)] if apart else [slice(views)]
        for start in range(first, image.height if last is None else last, step):
            total: list[Any] = [0.0] * (len(parts) * views if apart else 1)
            for scale, ((rows, _), (index, weight), (down, across), maps) in enumerate(
                zip(parts, column_parts, upsampling, logits, strict=True)
            ):
                target = np.minimum(np.arange(start, start + step), image.height - 1)
                if not padded:
                    target = target[: image.height - start]
                add_up = self._compiled(
                    combined, taps=len(index), normalize=normalize, views=1 if apart else views
                )
                for place, upper, lower in row_parts(rows, image.height, target, padded, step):
                    lower = (share * lower).astype(np.float32)
                    for number, view in enumerate(together):
                        total[apart * (scale * views + number)] += add_up(
                            maps[place][:, view], down[upper], across, lower, index, weight
                        )
            yield start, total if apart else total[0]

    def _compiled(self, function, *, taps=None, views=None, **options):
        """The function with its options, compiled by the backend for any sizes."""
        classes = self.model.num_classes
        signature: list[Any] = [(None, None, classes)]
        if function is combined:
            signature = [(None, views, None, None, classes), *[(None, None)] * 3]
        return compiled(function, tuple(options.items()), tuple(signature), taps)


class SingleView:
    """The network's only input for an image, and the way back to the image's pixels.

    Made by `Segmenter.single_view`.

    Attributes:
        pixels: (height, width, channels) float32, the image at the size the network sees.
        size: (height, width) of the image itself.
    """

    def __init__(self, segmenter: Segmenter, image: "_Image"):
        self._segmenter, self._image = segmenter, image
        self.pixels: np.ndarray = image.scales[0].pixels
        self.size = image.height, image.width

    def classes(self, logits: np.ndarray) -> np.ndarray:
        """The class of every pixel, (height, width), as `Segmenter.classes` returns it.

        Args:
            logits: (h, w, num_classes), at the network's output stride.
        """
        maps = [[np.asarray(logits, np.float32)[None, None]]]
        return self._segmenter._output(self._image, maps)[0]

    def matrices(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Matrices that resize the rows and columns of a low-resolution map to the image.

        The map is upsampled like the network's logits and then resized like its probabilities.

        Args:
            size: (h, w) of the map, at the network's output stride.

        Returns:
            (height, h) and (width, w) float32.
        """
        align_corners = self._segmenter.model.align_corners
        matrices = []
        for source, view, target in zip(size, self.pixels.shape, self.size, strict=False):
            upsampling = interpolation_matrix(source, view, align_corners=align_corners)
            first, second, share = resize_taps(view, target)
            share = share[:, None]
            matrix = upsampling[first] * (1 - share) + upsampling[second] * share
            matrices.append(matrix.astype(np.float32))
        return matrices[0], matrices[1]


@dataclasses.dataclass
class _Window:
    """One input of the network."""

    image: "_Image"
    scale: int
    row: int
    column: int
    mirrored: bool


class _Scale:
    """An image at one scale, padded, and the positions of its windows."""

    def __init__(self, image, scale, protocol, mean):
        height, width = image.shape[:2]
        size = scaled_size(height, width, scale, protocol.base_size)
        crop = (protocol.crop, protocol.crop) if protocol.crop else size
        self.grid = tuple(
            Axis(length, side, protocol.overlap) for length, side in zip(size, crop, strict=True)
        )
        rows, columns = self.grid
        self.plain = size == (height, width) and len(rows.starts) == len(columns.starts) == 1
        self.pixels = np.tile(mean, (rows.padded, columns.padded, 1))
        self.pixels[
            rows.before : rows.before + size[0], columns.before : columns.before + size[1]
        ] = resized(np.asarray(image, np.float32), size, antialias=protocol.antialias)


class _Image:
    """An image in progress: its scales, and the logits computed so far."""

    def __init__(self, image, protocol, mean):
        self.height, self.width = image.shape[:2]
        self.scales = [_Scale(image, scale, protocol, mean) for scale in protocol.scales]
        self.logits = [[None] * len(scale.grid[0].starts) for scale in self.scales]
        self._views = 1 + protocol.flip
        self.missing = sum(1 for _ in self.windows())

    def put(self, rows: np.ndarray, first: int, result: np.ndarray) -> None:
        """Copies rows of a block, cropped to the image, to their place."""
        rows = rows[: self.height - first, : self.width]
        result[first : first + len(rows)] = rows

    def windows(self) -> Iterator[_Window]:
        """Yields all inputs of the network for this image."""
        views = (False, True)[: self._views]
        for number, scale in enumerate(self.scales):
            rows, columns = (range(len(axis.starts)) for axis in scale.grid)
            for row, column, mirrored in itertools.product(rows, columns, views):
                yield _Window(self, number, row, column, mirrored)

    def cut(self, window: _Window) -> np.ndarray:
        """Returns the pixels of a window, mirrored if asked for."""
        scale = self.scales[window.scale]
        rows, columns = scale.grid
        top, left = rows.starts[window.row], columns.starts[window.column]
        pixels = scale.pixels[top : top + rows.crop, left : left + columns.crop]
        return pixels[:, ::-1] if window.mirrored else pixels

    def take(self, window: _Window, logits: np.ndarray) -> None:
        """Stores the logits of a window; after the last one, frees the pixels."""
        maps = self.logits[window.scale]
        if maps[window.row] is None:
            columns = len(self.scales[window.scale].grid[1].starts)
            maps[window.row] = np.empty((columns, self._views, *logits.shape), np.float32)
        maps[window.row][window.column, int(window.mirrored)] = logits
        self.missing -= 1
        if self.missing == 0:
            for scale in self.scales:
                del scale.pixels
