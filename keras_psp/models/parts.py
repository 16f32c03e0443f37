"""Splits logits into parts: of the features, of each level of the pyramid, and a constant.

In inference, the map that the classifier sees is

    relu(scale * (term of the features + sum of the terms of the levels) + shift)

where scale and shift are those of BatchNorm. The classifier is linear. With the gates of the ReLU
held fixed, i.e. where it passes this image's values, every logit is therefore the sum of one part
per term and of a constant from the shift and the classifier's bias. Nothing is approximated.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from keras import ops

from keras_psp.layers.convolution import convolution
from keras_psp.layers.folding import scale_and_shift
from keras_psp.layers.normalization import full_precision
from keras_psp.layers.resampling import interpolation_matrix
from keras_psp.models.pspnet import PSPNet


class LogitParts:
    """Splits the logits of one image, at the output stride, into parts that add up to them.

    Memory stays bounded: a map of the fusion's filters for the features, one for the term of the
    current level, and the parts of the requested class.

    Args:
        model: a `PSPNet`. If it computes in half precision, its features are taken as they are
            and what follows is computed in float32.
        image: (height, width, input_channels), e.g. RGB 0..255, at the size the network sees.

    Attributes:
        levels: the levels before they are upsampled, (bins, bins, channels) each.
        logits: (h, w, num_classes).

    Raises:
        ValueError: if the image has another number of channels than the model takes, or is too
            small for the largest bin.
    """

    def __init__(self, model: PSPNet, image: np.ndarray):
        term, levels = model.predict_terms(np.asarray(image)[None])
        self.levels = [level[0] for level in levels]
        pyramid, classifier = model.get_layer("pyramid_pooling"), model.get_layer("classifier")
        self._fusion = pyramid.fusion
        self._dtype = full_precision(model.dtype_policy)
        self._scale, self._shift = scale_and_shift(pyramid.norm)
        self._kernel = np.asarray(ops.convert_to_numpy(classifier.kernel), self._dtype)
        self._bias = np.asarray(ops.convert_to_numpy(classifier.bias), self._dtype)
        self._term = self._tensor(term[0])
        total = self._term
        for number, level in enumerate(self.levels):
            total = total + self._level_term(number, level)
        self._before_relu = total * self._tensor(self._scale) + self._tensor(self._shift)
        self.logits = self._classified(self._before_relu)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the logits."""
        height, width, _ = self._term.shape
        return height, width

    @property
    def nbytes(self) -> int:
        """Bytes of the maps in memory."""
        maps = math.prod(self._term.shape) * np.dtype(self._dtype).itemsize
        return 2 * maps + self.logits.nbytes

    def parts(self, target: int, other: int | None = None) -> np.ndarray:
        """The parts of a class' logit, or of its logit minus that of another class.

        Returns:
            (2 + levels, h, w): the features' part, one per level, and the constant, which is the
            same at all positions with the same gates.
        """
        kernel, bias = self._kernel[..., target], self._bias[target]
        if other is not None:
            kernel, bias = kernel - self._kernel[..., other], bias - self._bias[other]
        split = self._split(kernel[..., None], bias[None])
        return np.stack([part[..., 0] for part in split])

    def class_parts(self, classes: Sequence[int]) -> Iterator[np.ndarray]:
        """Yields the parts of several classes' logits one at a time, in the order of `parts`.

        Args:
            classes: their indices.

        Yields:
            (h, w, len(classes)).
        """
        chosen = list(classes)
        return self._split(self._kernel[..., chosen], self._bias[chosen])

    def _split(self, kernel, bias):
        """Yields the parts of a classifier's output, (h, w, filters), given its kernel and bias."""
        gates = ops.cast(self._before_relu > 0, self._dtype)
        scaled = self._tensor(kernel * self._scale[:, None])
        yield _convolved(gates * self._term, scaled)
        for number, level in enumerate(self.levels):
            yield _convolved(gates * self._level_term(number, level), scaled)
        yield _convolved(gates, self._tensor(kernel * self._shift[:, None])) + bias

    def means(self) -> list[np.ndarray]:
        """What `position_means` returns for the image."""
        return position_means(self.levels, self.size, align_corners=self._fusion.align_corners)

    def logits_without(self, means: Mapping[int, np.ndarray]) -> np.ndarray:
        """The logits with constant maps in place of some levels, which also change the gates.

        Args:
            means: the constant, (channels,), of each level to replace, by its number from 0.

        Returns:
            (h, w, num_classes).
        """
        change = ops.zeros_like(self._term)
        for number, mean in means.items():
            # A constant map stays constant when it is upsampled.
            change = change + self._level_term(number, mean - self.levels[number])
        return self._classified(self._before_relu + change * self._tensor(self._scale))

    def _tensor(self, array):
        return ops.convert_to_tensor(array, self._dtype)

    def _level_term(self, number, level):
        term = self._fusion.level_term(number, self._tensor(level)[None], self.size)
        return ops.cast(ops.stop_gradient(term)[0], self._dtype)

    def _classified(self, before_relu):
        return _convolved(ops.relu(before_relu), self._tensor(self._kernel)) + self._bias


def position_means(
    levels: Sequence[np.ndarray], size: Sequence[int], *, align_corners: bool
) -> list[np.ndarray]:
    """The mean of each level's upsampled map over all its positions.

    Args:
        levels: (bins, bins, channels) each.
        size: (height, width) of the features.
        align_corners: how the levels are upsampled, see `PyramidPoolingModule`.

    Returns:
        (channels,) each.
    """
    means = []
    for level in levels:
        rows, columns = (
            interpolation_matrix(len(level), side, align_corners=align_corners).mean(axis=0)
            for side in size
        )
        means.append(np.einsum("a,c,ack->k", rows, columns, level).astype(level.dtype))
    return means


def _convolved(x, kernel):
    """Convolution of (h, w, channels) with zero padding, as a NumPy array."""
    if kernel.shape[0] > 1:
        return ops.convert_to_numpy(convolution(x[None], kernel)[0])
    height, width, channels = x.shape
    product = ops.matmul(ops.reshape(x, (height * width, channels)), kernel[0, 0])
    return ops.convert_to_numpy(ops.reshape(product, (height, width, -1)))
