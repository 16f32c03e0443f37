"""Logits as a sum of parts: of the features, of each level of the pyramid, and a constant.

In inference, the map that the classifier sees is

    relu(scale * (term of the features + sum of the terms of the levels) + shift)

where scale and shift are those of BatchNorm. The classifier is linear. With the gates of the ReLU
held fixed, i.e. where it lets this image's values through, every logit is therefore a sum of one
part per term, and of the part of the shift and the classifier's bias. Nothing is approximated.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from keras_psp.layers.folding import scale_and_shift
from keras_psp.layers.normalization import full_precision
from keras_psp.layers.resampling import interpolation_matrix
from keras_psp.models.pspnet import PSPNet


class LogitParts:
    """Splits the logits of one image, at output stride 8, into parts that add up to them.

    Memory stays bounded: a map of the fusion's filters for the features, one for the levels'
    term in progress, and the parts of the class that is asked for.

    Args:
        model: a `PSPNet`. If it computes in half precision, its features are taken as they are
            and what follows is computed in float32.
        image: (height, width, 3), RGB 0..255, at the size the network is to see.

    Attributes:
        levels: the levels before they are upsampled, (bins, bins, channels) each.
        logits: (h, w, num_classes).

    Raises:
        ValueError: if the image isn't RGB or is too small for the largest bin.
    """

    def __init__(self, model: PSPNet, image: np.ndarray):
        term, levels = model.predict_terms(np.asarray(image)[None])
        self._term = term[0]
        self.levels = [level[0] for level in levels]
        pyramid, classifier = model.get_layer("pyramid_pooling"), model.get_layer("classifier")
        self._fusion = pyramid.fusion
        dtype = full_precision(model.dtype_policy)
        scale, shift = scale_and_shift(pyramid.norm)
        self._scale, self._shift = scale.astype(dtype), shift.astype(dtype)
        self._kernel = np.asarray(ops.convert_to_numpy(classifier.kernel), dtype)
        self._bias = np.asarray(ops.convert_to_numpy(classifier.bias), dtype)
        total = self._term.copy()
        for number, level in enumerate(self.levels):
            total += self._level_term(number, level)
        self._before_relu = self._normalized(total)
        self.logits = self._classified(self._before_relu)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the logits."""
        height, width, _ = self._term.shape
        return height, width

    def parts(self, target: int, other: int | None = None) -> np.ndarray:
        """The parts of a class' logit, or of its logit minus that of another class.

        Returns:
            (2 + levels, h, w): the features' part, one per level, and the constant, which is the
            same at all positions with the same gates.
        """
        kernel, bias = self._kernel[..., target], self._bias[target]
        if other is not None:
            kernel, bias = kernel - self._kernel[..., other], bias - self._bias[other]
        gates = self._before_relu > 0
        scaled = (kernel * self._scale)[..., None]
        parts = np.empty((2 + len(self.levels), *self.size), self.logits.dtype)
        parts[0] = _convolved(gates * self._term, scaled)[..., 0]
        for number, level in enumerate(self.levels):
            parts[1 + number] = _convolved(gates * self._level_term(number, level), scaled)[..., 0]
        shift = (kernel * self._shift)[..., None]
        parts[-1] = _convolved(gates.astype(parts.dtype), shift)[..., 0] + bias
        return parts

    def means(self) -> list[np.ndarray]:
        """What `position_means` returns for the image."""
        return position_means(self.levels, self.size, align_corners=self._fusion.align_corners)

    def logits_without(self, means: Mapping[int, np.ndarray]) -> np.ndarray:
        """The logits with a constant map in place of some levels, with the gates that follow.

        Args:
            means: the values, (channels,), of each level to replace, by its number from 0.

        Returns:
            (h, w, num_classes).
        """
        change = np.zeros_like(self._term)
        for number, mean in means.items():
            # A constant map stays constant when it is upsampled.
            change += self._level_term(number, mean - self.levels[number])
        change *= self._scale
        change += self._before_relu
        return self._classified(change)

    def _level_term(self, number, level):
        term = self._fusion.level_term(number, level[None], self.size)
        return np.asarray(ops.convert_to_numpy(term), level.dtype)[0]

    def _normalized(self, total):
        total *= self._scale
        total += self._shift
        return total

    def _classified(self, before_relu):
        return _convolved(np.maximum(before_relu, 0), self._kernel) + self._bias


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
    """Convolution of (h, w, channels) with zero padding, at stride 1."""
    taps = len(kernel)
    if taps == 1:
        return x @ kernel[0, 0]
    height, width, _ = x.shape
    side = taps // 2
    x = np.pad(x, [(side, side), (side, side), (0, 0)])
    return sum(
        x[i : i + height, j : j + width] @ kernel[i, j] for i in range(taps) for j in range(taps)
    )
