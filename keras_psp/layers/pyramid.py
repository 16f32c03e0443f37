"""Pyramid pooling and its fusion convolution (paper, section 3.2 and figure 3)."""

from collections.abc import Sequence
from typing import Literal

import keras
from keras import ops

from keras_psp.layers.convolution import (
    ConvNorm,
    _tensorflow_convolution,
    batch_normalization,
    freeze_inner,
)
from keras_psp.layers.folding import fold, folded_tensors
from keras_psp.layers.resampling import (
    adaptive_max_pool,
    apply_columns,
    apply_rows,
    interpolation_matrix,
    pooling_matrix,
    spatial_size,
)


@keras.saving.register_keras_serializable("keras_psp")
class FactorizedFusion(keras.layers.Layer):
    """Convolution over concat[features, upsampled pyramid], without the concatenation.

    A convolution is linear in its input channels, so it is a convolution of the
    features plus one of every upsampled level. A level has at most a few dozen cells,
    and upsampling, shifting by a tap and zero padding are one fixed linear map: so the
    cells are multiplied by the kernel first and the products are interpolated. Same
    function, half of the arithmetic (the levels are half of the input channels), and no
    map of 4096 channels is ever made.

    The weight is the ordinary kernel (kernel_size, kernel_size, feature channels +
    pyramid channels, filters), features first, then the levels in order.

    Args:
        filters: output channels.
        kernel_size: 3, or 1 as in segmentation_models.pytorch.
        align_corners: how the levels are upsampled, see `resize_bilinear`.

    Input:  [features (batch, height, width, channels), levels (batch, b, b, c) ...].
    Output: (batch, height, width, filters).
    """

    def __init__(
        self, filters, *, kernel_size=3, align_corners=True, kernel_initializer=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.align_corners = align_corners
        self.kernel_initializer = keras.initializers.get(kernel_initializer or "he_normal")

    def build(self, input_shape):
        features, *levels = input_shape
        channels = features[-1] + sum(level[-1] for level in levels)
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, channels, self.filters),
            initializer=self.kernel_initializer,
            name="kernel",
        )

    def call(self, inputs, kernel=None):
        features, *levels = inputs
        kernel = ops.convert_to_tensor(self.kernel if kernel is None else kernel)
        channels = features.shape[-1]
        own = kernel[:, :, :channels] if levels else kernel
        if keras.backend.backend() == "tensorflow":
            padding = (self.kernel_size // 2,) * 2
            fused = _tensorflow_convolution(features, own, (1, 1), (1, 1), padding)
        else:
            fused = ops.conv(features, own, padding="same", data_format="channels_last")
        if not levels:
            return fused
        return fused + self._levels_term(levels, kernel, channels, spatial_size(features))

    def _levels_term(self, levels, kernel, offset, size):
        """Sum over levels of conv(upsample(level)), as (batch, height, width, filters)."""
        height, width = size
        taps = self.kernel_size
        batch = ops.shape(levels[0])[0]
        terms, columns = [], []
        for level in levels:
            bins, channels = level.shape[1], level.shape[-1]
            weights = kernel[:, :, offset : offset + channels]
            offset += channels
            # (taps, taps, c, f) x (cells, c): the cells times each of the taps.
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
        columns = ops.concatenate([ops.convert_to_tensor(c) for c in columns], axis=1)
        return apply_columns(columns, ops.concatenate(terms, axis=2))

    def _tap_matrix(self, bins, target):
        """(target, taps * bins): bilinear rows shifted by each tap, zero past the map."""
        return ops.concatenate(
            [
                ops.convert_to_tensor(
                    interpolation_matrix(
                        bins, target, align_corners=self.align_corners, shift=shift
                    )
                )
                for shift in range(-(self.kernel_size // 2), self.kernel_size // 2 + 1)
            ],
            axis=1,
        )

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "align_corners": self.align_corners,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("keras_psp")
class PyramidPoolingModule(keras.layers.Layer):
    """Pools the features into a pyramid of regions and fuses them with the features.

    For every bin size: adaptive pooling, 1x1 convolution, BatchNorm, ReLU, bilinear
    upsampling; then one 3x3 convolution over the features and all levels together,
    BatchNorm, ReLU, channel dropout (semseg/model/pspnet.py, `PPM` and `cls`). The
    3x3 convolution is computed in factorised form, see `FactorizedFusion`.

    Args:
        bin_sizes: side lengths of the pooled grids; () leaves the 3x3 convolution alone,
            the dilated FCN baseline of the paper's table 1.
        pooling: "average" or "max".
        reduction: channels of each level after its 1x1 convolution: "auto" is the
            features' channels over the number of levels, None pools without a 1x1
            convolution, BatchNorm and ReLU ("without dimension reduction", table 1).
        filters: output channels, 512 for 2048 feature channels; "auto" is a quarter of
            the feature channels.
        kernel_size: of the fusion convolution, 3; 1 in segmentation_models.pytorch.
        normalize_global: whether the level of one bin has a BatchNorm like the others;
            segmentation_models.pytorch gives its convolution a bias instead.
        align_corners: True as in semseg and Caffe, False as in mmsegmentation.
        dropout: share of channels dropped in training.
        epsilon, momentum, synchronized: of BatchNorm, see `ConvNorm`.

    Input:  (batch, height, width, channels), height and width at least max(bin_sizes).
    Output: (batch, height, width, filters).

    Raises:
        ValueError: bins that are no positive ints or larger than the feature map, an
            unknown pooling.
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        bin_sizes = tuple(bin_sizes)
        if any(not isinstance(bins, int) or bins < 1 for bins in bin_sizes):
            raise ValueError(f"bin_sizes={bin_sizes} must be positive integers, as (1, 2, 3, 6).")
        if pooling not in ("average", "max"):
            raise ValueError(f"pooling={pooling!r} is unknown; choose 'average' or 'max'.")
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size={kernel_size!r} of the fusion; choose 3 or 1.")
        self.bin_sizes = bin_sizes
        self.pooling = pooling
        self.reduction = reduction
        self.filters = filters
        self.kernel_size = kernel_size
        self.normalize_global = normalize_global
        self.align_corners = align_corners
        self.dropout_rate = dropout
        self.epsilon = epsilon
        self.momentum = momentum
        self.synchronized = synchronized

    def build(self, input_shape):
        channels = input_shape[-1]
        options = {
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "synchronized": self.synchronized,
            "dtype": self.dtype_policy,
        }
        filters = channels // 4 if self.filters == "auto" else self.filters
        reduction = self.reduction
        if reduction == "auto" and self.bin_sizes:
            reduction = channels // len(self.bin_sizes)
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
        self.built = True

    def call(self, features, training=None):
        levels = self._pool(features)
        if self.reductions:
            levels = [
                conv(level, training=training)
                for conv, level in zip(self.reductions, levels, strict=True)
            ]
        tensors = None if training else folded_tensors(self)
        if tensors is None:
            x = self.norm(self.fusion([features, *levels]), training=training)
        else:
            x = self.fusion([features, *levels], kernel=tensors[0]) + tensors[1]
        return self.dropout(ops.relu(x), training=training)

    def folded_weights(self):
        """The fusion's kernel and bias with the BatchNorm in them, as numpy arrays."""
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
        # One pass over the features makes the rows of all levels.
        matrices = [ops.convert_to_tensor(pooling_matrix(height, bins)) for bins in self.bin_sizes]
        rows = apply_rows(ops.concatenate(matrices, axis=0), features)
        levels, start = [], 0
        for bins in self.bin_sizes:
            levels.append(apply_columns(pooling_matrix(width, bins), rows[:, start : start + bins]))
            start += bins
        return levels

    def compute_output_shape(self, input_shape):
        channels = input_shape[-1]
        return (*input_shape[:-1], channels // 4 if self.filters == "auto" else self.filters)

    def get_config(self):
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
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "synchronized": self.synchronized,
        }


def torch_default_initializer():
    """How torch starts a convolution, and semseg its heads: uniform within 1/sqrt(fan-in)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
