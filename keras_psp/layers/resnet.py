"""ResNet whose last stages are dilated (paper, section 3.2; semseg/model/resnet.py)."""

from collections.abc import Sequence
from typing import Literal

import keras
from keras import ops

from keras_psp.layers.convolution import ConvNorm, freeze_inner

# Blocks per stage; 269 is Caffe PSPNet's own (hszhao/PSPNet, pspnet269).
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    269: (3, 30, 48, 8),
}
FILTERS = (64, 128, 256, 512)


class _ResidualBlock(keras.layers.Layer):
    """What both kinds of block share: the shortcut and the closing ReLU."""

    def __init__(self, *, shortcut, name, dtype):
        super().__init__(name=name, dtype=dtype)
        self.convs = []
        self.shortcut = shortcut

    def build(self, input_shape):
        shape = input_shape
        for conv in self.convs:
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
        if self.shortcut is not None:
            self.shortcut.build(input_shape)
        self.built = True

    def call(self, x, training=None):
        y = x
        for conv in self.convs:
            y = conv(y, training=training)
        if self.shortcut is not None:
            x = self.shortcut(x, training=training)
        return ops.relu(x + y)

    def compute_output_shape(self, input_shape):
        for conv in self.convs:
            input_shape = conv.compute_output_shape(input_shape)
        return input_shape


def _basic_block(filters, *, strides, dilations, shortcut, stride_in_1x1, options, name):
    """Two 3x3 convolutions (depths 18 and 34)."""
    del stride_in_1x1  # a basic block has no 1x1 convolution
    block = _ResidualBlock(shortcut=shortcut, name=name, dtype=options["dtype"])
    block.convs = [
        ConvNorm(filters, 3, strides=strides, dilation_rate=dilations[0], name="conv1", **options),
        ConvNorm(filters, 3, dilation_rate=dilations[1], activation=False, name="conv2", **options),
    ]
    return block


def _bottleneck(filters, *, strides, dilations, shortcut, stride_in_1x1, options, name):
    """1x1, 3x3 and 1x1 convolutions (depths 50 and more)."""
    block = _ResidualBlock(shortcut=shortcut, name=name, dtype=options["dtype"])
    first, second = (strides, 1) if stride_in_1x1 else (1, strides)
    block.convs = [
        ConvNorm(filters, 1, strides=first, name="conv1", **options),
        ConvNorm(filters, 3, strides=second, dilation_rate=dilations[0], name="conv2", **options),
        ConvNorm(4 * filters, 1, activation=False, name="conv3", **options),
    ]
    return block


@keras.saving.register_keras_serializable("keras_psp")
class DilatedResNet(keras.layers.Layer):
    """ResNet that keeps its resolution by dilation instead of stride.

    Args:
        depth: 18, 34, 50, 101, 152 or 269.
        output_stride: 8, 16 or 32: input size over the last map's size. At 8 the last
            two stages are dilated by 2 and 4, at 16 the last one by 2.
        dilations: of the four stages, where they aren't those of the output stride, as in
            mmsegmentation's `d32` models: (1, 1, 2, 4) with all strides kept.
        stem_filters: channels of three 3x3 convolutions, (64, 64, 128) as in semseg or
            (32, 32, 64) as in mmsegmentation; one number, (64,), is the original single
            7x7 convolution.
        contract_dilation: the first block of a dilated stage takes half of the stage's
            dilation, as in mmsegmentation; semseg gives it the whole. (Depths 18 and 34:
            the first of its two convolutions.)
        dilate_second: depths 18 and 34, whether the second convolution of a block is
            dilated like the first; mmsegmentation leaves it undilated.
        num_stages: residual stages, 4 of which make the whole network;
            segmentation_models.pytorch stops after 2.
        stride_in_1x1: a strided bottleneck strides in its first 1x1 convolution
            (ResNet v1, Caffe) instead of in its 3x3 (v1.5, torch).
        use_bias: whether the convolutions have a bias.
        epsilon, momentum, synchronized: of BatchNorm, see `ConvNorm`.

    Input:  (batch, height, width, 3), normalised.
    Output: (auxiliary, features): the maps of the last two stages, by default 4 and 5 of
        5 (torch's `layer3` and `layer4`), (batch, h, w, 1024) and (batch, h, w, 2048);
        256 and 512 channels at depths 18 and 34. h = ceil(height / output_stride).

    Raises:
        ValueError: for a depth, output stride, stem or number of stages that does not exist.
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        output_stride: int = 8,
        dilations: Sequence[int] | None = None,
        stem_filters: Sequence[int] = (64, 64, 128),
        contract_dilation: bool = False,
        dilate_second: bool = True,
        num_stages: int = 4,
        stride_in_1x1: bool = False,
        use_bias: bool = False,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        synchronized: bool | Literal["auto"] = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if depth not in BLOCKS:
            raise ValueError(f"depth={depth!r} is unknown; choose one of {sorted(BLOCKS)}.")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride={output_stride!r}; choose 8, 16 or 32.")
        if num_stages not in (2, 3, 4):
            raise ValueError(f"num_stages={num_stages!r}; choose 2, 3 or 4.")
        if dilations is not None and len(dilations) != 4:
            raise ValueError(f"dilations={tuple(dilations)}; give four, one a stage.")
        stem_filters = tuple(stem_filters)
        if len(stem_filters) not in (1, 3):
            raise ValueError(
                f"stem_filters={stem_filters} has {len(stem_filters)} widths; give one "
                "(a 7x7 convolution) or three (3x3 convolutions)."
            )
        self.depth = depth
        self.output_stride = output_stride
        self.dilations = None if dilations is None else tuple(dilations)
        self.stem_filters = stem_filters
        self.contract_dilation = contract_dilation
        self.dilate_second = dilate_second
        self.num_stages = num_stages
        self.stride_in_1x1 = stride_in_1x1
        self.use_bias = use_bias
        self.epsilon = epsilon
        self.momentum = momentum
        self.synchronized = synchronized
        options = {
            "use_bias": use_bias,
            "epsilon": epsilon,
            "momentum": momentum,
            "synchronized": synchronized,
            "dtype": self.dtype_policy,
        }
        kernel_size = 7 if len(stem_filters) == 1 else 3
        self.stem = [
            ConvNorm(
                filters,
                kernel_size,
                strides=2 if i == 0 else 1,
                name=f"stem_conv{i + 1}",
                **options,
            )
            for i, filters in enumerate(stem_filters)
        ]
        self.stages = self._stages(options)
        # Keras before 3.15 saves no list in a list, and says nothing. These names are the paths
        # that 3.15 gives them, so that each opens the other's files.
        for i, blocks in enumerate(self.stages):
            setattr(self, f"stages/container_{i}" if i else "stages/container", blocks)
        freeze_inner(self)

    def _stages(self, options):
        """Lists of blocks; a stage's stride becomes dilation past the output stride."""
        expansion = 1 if self.depth < 50 else 4
        make = _basic_block if self.depth < 50 else _bottleneck
        stages, channels, stride, dilation = [], self.stem_filters[-1], 4, 1
        plan = list(zip(BLOCKS[self.depth], FILTERS, strict=True))[: self.num_stages]
        for stage, (count, filters) in enumerate(plan):
            strides = 1 if stage == 0 else 2
            if strides == 2 and stride == self.output_stride:
                strides, dilation = 1, 2 * dilation
            stride *= strides
            dilated_here = stage > 0 and strides == 1
            if self.dilations is not None:
                dilation = self.dilations[stage]
                dilated_here = dilation > 1
            blocks = []
            for block in range(count):
                name = f"stage{stage + 2}_block{block + 1}"
                first = block == 0
                contracted = first and self.contract_dilation and dilated_here
                shortcut = None
                if first and (strides > 1 or channels != expansion * filters):
                    shortcut = ConvNorm(
                        expansion * filters,
                        1,
                        strides=strides,
                        activation=False,
                        name="shortcut",
                        **options,
                    )
                blocks.append(
                    make(
                        filters,
                        strides=strides if first else 1,
                        dilations=(
                            dilation // 2 if contracted else dilation,
                            dilation if self.dilate_second else 1,
                        ),
                        shortcut=shortcut,
                        stride_in_1x1=self.stride_in_1x1,
                        options=options,
                        name=name,
                    )
                )
            channels = expansion * filters
            stages.append(blocks)
        return stages

    def build(self, input_shape):
        shape = input_shape
        for conv in self.stem:
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
        shape = self._pooled_shape(shape)
        for blocks in self.stages:
            for block in blocks:
                block.build(shape)
                shape = block.compute_output_shape(shape)
        self.built = True

    def call(self, x, training=None):
        for conv in self.stem:
            x = conv(x, training=training)
        # Zeros pad as well as torch's -inf: a ReLU came before.
        x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = ops.max_pool(x, 3, 2, padding="valid", data_format="channels_last")
        maps = []
        for blocks in self.stages:
            for block in blocks:
                x = block(x, training=training)
            maps.append(x)
        return maps[-2], maps[-1]

    @staticmethod
    def _pooled_shape(shape):
        return (shape[0], *(None if n is None else -(-n // 2) for n in shape[1:3]), shape[3])

    def compute_output_shape(self, input_shape):
        shape = input_shape
        for conv in self.stem:
            shape = conv.compute_output_shape(shape)
        shape = self._pooled_shape(shape)
        shapes = []
        for blocks in self.stages:
            for block in blocks:
                shape = block.compute_output_shape(shape)
            shapes.append(shape)
        return shapes[-2], shapes[-1]

    def get_config(self):
        return {
            **super().get_config(),
            "depth": self.depth,
            "output_stride": self.output_stride,
            "dilations": self.dilations,
            "stem_filters": self.stem_filters,
            "contract_dilation": self.contract_dilation,
            "dilate_second": self.dilate_second,
            "num_stages": self.num_stages,
            "stride_in_1x1": self.stride_in_1x1,
            "use_bias": self.use_bias,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "synchronized": self.synchronized,
        }
