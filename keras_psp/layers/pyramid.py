"""Pyramid pooling and its fusion convolution (paper, section 3.2 and figure 3)."""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_psp.arguments import (
    checked_choice,
    checked_count,
    checked_flag,
    checked_integer,
    checked_number,
    checked_tuple,
)
from keras_psp.layers.convolution import (
    ConvNorm,
    batch_normalization,
    convolution,
    freeze_inner,
    norm_options,
    store_norm_options,
)
from keras_psp.layers.folding import fold, folded_tensors
from keras_psp.layers.resampling import (
    adaptive_max_pool,
    apply_columns,
    apply_rows,
    pooling_matrix,
    spatial_size,
    tap_matrices,
)


@keras.saving.register_keras_serializable("keras_psp")
class FactorizedFusion(keras.layers.Layer):
    """Convolution over concat[features, upsampled pyramid], without the concatenation.

    A convolution is linear in its input channels, so it is the sum of a convolution of the
    features and one of each upsampled level. A level has at most a few dozen cells, and
    upsampling, shifting by a tap and zero padding together are one fixed linear map. The cells
    are therefore multiplied by the kernel first, and the products are interpolated. The result
    is the same with half of the arithmetic (the levels are half of the input channels), and the
    concatenation, a map of 4096 channels for ResNet-50, is never stored.

    The weight is the ordinary kernel (kernel_size, kernel_size, feature channels + pyramid
    channels, filters), features first, then the levels in order.

    Args:
        filters: output channels.
        kernel_size: 3, or 1 as in segmentation_models.pytorch.
        align_corners: how to upsample the levels, see `resize_bilinear`.
        kernel_initializer: default: He normal.

    Input:  [features (batch, height, width, channels), levels (batch, b, b, c) ...].
    Output: (batch, height, width, filters).

    Example:
        features = keras.random.normal((1, 30, 30, 64))
        level = keras.random.normal((1, 6, 6, 16))
        FactorizedFusion(filters=32)([features, level]).shape  # (1, 30, 30, 32)
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        align_corners: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = checked_integer("filters", filters, least=1)
        self.kernel_size = checked_choice("kernel_size", kernel_size, (1, 3))
        self.align_corners = checked_flag("align_corners", align_corners)
        self.kernel_initializer = keras.initializers.get(kernel_initializer or "he_normal")

    def build(self, input_shape: Sequence[tuple]) -> None:
        channels = sum(shape[-1] for shape in input_shape)
        # The first input channel of the features, of each level, and the end.
        self.edges = tuple(np.cumsum([0, *(shape[-1] for shape in input_shape)]).tolist())
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, channels, self.filters),
            initializer=self.kernel_initializer,
            name="kernel",
        )

    def call(self, inputs: Sequence[Any], kernel: Any | None = None) -> Any:
        features, *levels = inputs
        kernel = ops.convert_to_tensor(self.kernel if kernel is None else kernel)
        # Unlike slices, whose gradients are padded to the whole kernel and added, a split's
        # gradient is one concatenation.
        ends = np.cumsum([x.shape[-1] for x in inputs])[:-1].tolist()
        own, *kernels = ops.split(kernel, ends, axis=2) if levels else [kernel]
        fused = convolution(features, own)
        if not levels:
            return fused
        return fused + self._levels_term(levels, kernels, spatial_size(features))

    def features_term(self, features: Any) -> Any:
        """The features' part of the sum, (batch, height, width, filters)."""
        return convolution(features, self.kernel[:, :, : self.edges[1]])

    def level_term(self, number: int, level: Any, size: Sequence[int]) -> Any:
        """One level's part of the sum.

        Args:
            number: index of the level, from 0.
            level: (batch, b, b, c); b may differ from the bins of the layer's input.
            size: (height, width) of the features.

        Returns:
            (batch, height, width, filters).
        """
        kernel = self.kernel[:, :, self.edges[number + 1] : self.edges[number + 2]]
        return self._levels_term([level], [kernel], size)

    def _levels_term(self, levels, kernels, size):
        """Sum over levels of conv(upsample(level)), (batch, height, width, filters)."""
        height, width = size
        taps = self.kernel_size
        batch = ops.shape(levels[0])[0]
        terms, columns = [], []
        for level, weights in zip(levels, kernels, strict=True):
            bins, channels = level.shape[1], level.shape[-1]
            # (taps, taps, c, f) x (cells, c): all cells times all taps.
            cells = ops.reshape(level, (1, batch * bins * bins, channels))
            weights = ops.reshape(weights, (taps * taps, channels, self.filters))
            products = ops.matmul(cells, weights)
            products = ops.reshape(products, (taps, taps, batch, bins, bins, self.filters))
            # -> (batch, row tap, row bin, column tap, column bin, filters)
            products = ops.transpose(products, (2, 0, 3, 1, 4, 5))
            rows = self._tap_matrix(bins, height)
            products = ops.reshape(products, (batch, taps * bins, taps * bins * self.filters))
            rows = ops.matmul(ops.cast(rows, products.dtype), products)
            terms.append(ops.reshape(rows, (batch, height, taps * bins, self.filters)))
            columns.append(self._tap_matrix(bins, width))
        # All levels share the last and largest contraction.
        return apply_columns(ops.concatenate(columns, axis=1), ops.concatenate(terms, axis=2))

    def _tap_matrix(self, bins, target):
        """(target, taps * bins): bilinear rows shifted by each tap, zero outside the map."""
        matrices = tap_matrices(bins, target, self.kernel_size, align_corners=self.align_corners)
        return ops.concatenate([ops.convert_to_tensor(matrix) for matrix in matrices], axis=1)

    def compute_output_shape(self, input_shape: Sequence[tuple]) -> tuple:
        return (*input_shape[0][:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "align_corners": self.align_corners,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("keras_psp")
class PyramidPoolingModule(keras.layers.Layer):
    """Pools features into a pyramid of regions and fuses them with the features.

    For each bin size: adaptive pooling, 1x1 convolution, BatchNorm, ReLU and bilinear
    upsampling. Then one 3x3 convolution over the features and all levels, BatchNorm, ReLU and
    channel dropout (semseg/model/pspnet.py, `PPM` and `cls`). `FactorizedFusion` computes the
    3x3 convolution.

    Args:
        bin_sizes: side lengths of the pooled grids; () leaves only the 3x3 convolution, the
            dilated FCN baseline of the paper's table 1.
        pooling: "average" or "max".
        reduction: channels of each level after its 1x1 convolution. "auto" divides the feature
            channels by the number of levels; None omits 1x1 convolution, BatchNorm and ReLU
            ("without dimension reduction", table 1).
        filters: output channels; "auto" is a quarter of the feature channels (512 of 2048), at
            least 128.
        kernel_size: that of the fusion convolution, 3, or 1 as in segmentation_models.pytorch.
        normalize_global: whether the level with one bin has a BatchNorm like the others;
            segmentation_models.pytorch gives its convolution a bias instead.
        align_corners: True as in semseg and Caffe, False as in mmsegmentation.
        dropout: fraction of the channels to drop in training.
        epsilon, momentum, synchronized: BatchNorm options, see `ConvNorm`.

    Input:  (batch, height, width, channels), height and width at least max(bin_sizes).
    Output: (batch, height, width, filters).

    Raises:
        ValueError: if bins are not positive ints or exceed the size of the feature map, or
            `pooling` or `kernel_size` is unknown.

    Example:
        module = PyramidPoolingModule(bin_sizes=(1, 2, 3, 6))
        module(keras.random.normal((1, 60, 60, 2048))).shape  # (1, 60, 60, 512)
    """

    def __init__(
        self,
        bin_sizes: Sequence[int] = (1, 2, 3, 6),
        *,
        pooling: Literal["average", "max"] = "average",
        reduction: int | Literal["auto"] | None = "auto",
        filters: int | Literal["auto"] = "auto",
        kernel_size: Literal[1, 3] = 3,
        normalize_global: bool = True,
        align_corners: bool = True,
        dropout: float = 0.1,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        synchronized: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        positive = functools.partial(checked_integer, least=1)
        self.bin_sizes = checked_tuple("bin_sizes", bin_sizes, positive)
        if len(set(self.bin_sizes)) < len(self.bin_sizes):
            raise ValueError(f"bin_sizes is {bin_sizes!r}; give each level another number of bins.")
        self.pooling = checked_choice("pooling", pooling, ("average", "max"))
        self.reduction = checked_count("reduction", reduction, "auto", None)
        self.filters = checked_count("filters", filters, "auto")
        self.kernel_size = checked_choice("kernel_size", kernel_size, (1, 3))
        self.normalize_global = checked_flag("normalize_global", normalize_global)
        self.align_corners = checked_flag("align_corners", align_corners)
        self.dropout_rate = checked_number("dropout", dropout, least=0, below=1)
        store_norm_options(self, epsilon, momentum, synchronized)

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        options = {"dtype": self.dtype_policy, **norm_options(self)}
        filters = self._output_channels(channels)
        share = channels // max(len(self.bin_sizes), 1)
        reduction = share if self.reduction == "auto" else self.reduction
        self.reductions = []
        level_shapes = []
        for bins in self.bin_sizes:
            shape = (input_shape[0], bins, bins, channels)
            if reduction is not None:
                conv = ConvNorm(
                    reduction,
                    1,
                    normalize=bins > 1 or self.normalize_global,
                    kernel_initializer=torch_default_initializer(),
                    name=f"level{bins}",
                    **options,
                )
                conv.build(shape)
                shape = conv.compute_output_shape(shape)
                self.reductions.append(conv)
            level_shapes.append(shape)
        self.fusion = FactorizedFusion(
            filters,
            kernel_size=self.kernel_size,
            align_corners=self.align_corners,
            kernel_initializer=torch_default_initializer(),
            dtype=self.dtype_policy,
            name="fusion",
        )
        self.fusion.build([input_shape, *level_shapes])
        self.norm = batch_normalization(name="norm", **options)
        self.norm.build((*input_shape[:-1], filters))
        self.dropout = keras.layers.SpatialDropout2D(
            self.dropout_rate, data_format="channels_last", dtype=self.dtype_policy, name="dropout"
        )
        freeze_inner(self)

    def call(self, features: Any, training: bool | None = None) -> Any:
        return self.fused(features, self.levels(features, training=training), training=training)

    def levels(self, features: Any, training: bool | None = None) -> list[Any]:
        """The pooled levels after their 1x1 convolutions, (batch, bins, bins, channels) each."""
        levels = self._pool(features)
        if not self.reductions:
            return levels
        return [
            conv(level, training=training)
            for conv, level in zip(self.reductions, levels, strict=True)
        ]

    def fused(self, features: Any, levels: list[Any], training: bool | None = None) -> Any:
        """The features and the upsampled levels, fused: (batch, height, width, filters)."""
        tensors = None if training else folded_tensors(self)
        if tensors is None:
            x = self.norm(self.fusion([features, *levels]), training=training)
        else:
            x = self.fusion([features, *levels], kernel=tensors[0]) + tensors[1]
        return self.dropout(ops.relu(x), training=training)

    def folded_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of the fusion convolution with the BatchNorm folded in."""
        return fold(self.fusion.kernel, None, self.norm)

    def _pool(self, features):
        height, width = spatial_size(features)
        for size in (height, width):
            if isinstance(size, int) and self.bin_sizes and size < max(self.bin_sizes):
                raise ValueError(
                    f"bin_sizes={self.bin_sizes}: the largest bin is larger than the feature "
                    f"map of {height}x{width}; use larger images or smaller bins."
                )
        if self.pooling == "max":
            return [adaptive_max_pool(features, bins) for bins in self.bin_sizes]
        if not self.bin_sizes:
            return []
        # The rows of all levels in one pass over the features.
        matrices = [ops.convert_to_tensor(pooling_matrix(height, bins)) for bins in self.bin_sizes]
        rows = apply_rows(ops.concatenate(matrices, axis=0), features)
        ends = np.cumsum(self.bin_sizes)[:-1].tolist()
        levels = ops.split(rows, ends, axis=1) if ends else [rows]
        return [
            apply_columns(pooling_matrix(width, bins), level)
            for bins, level in zip(self.bin_sizes, levels, strict=True)
        ]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self._output_channels(input_shape[-1]))

    def _output_channels(self, channels):
        return max(channels // 4, 128) if self.filters == "auto" else self.filters

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bin_sizes": self.bin_sizes,
            "pooling": self.pooling,
            "reduction": self.reduction,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "normalize_global": self.normalize_global,
            "align_corners": self.align_corners,
            "dropout": self.dropout_rate,
            **norm_options(self),
        }


def torch_default_initializer() -> keras.initializers.Initializer:
    """The default of torch and of semseg's heads: uniform within 1/sqrt(fan-in)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
