"""ResNet with dilated last stages (paper, section 3.2; semseg/model/resnet.py)."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import keras
from keras import ops

from keras_psp.arguments import (
    checked_choice,
    checked_flag,
    checked_integer,
    checked_tuple,
)
from keras_psp.layers.convolution import (
    ConvNorm,
    freeze_inner,
    in_sequence,
    norm_options,
    store_norm_options,
)
from keras_psp.layers.recomputation import recomputed

# Blocks per stage; depth 269 exists only in Caffe PSPNet (hszhao/PSPNet, pspnet269).
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    269: (3, 30, 48, 8),
}
FILTERS = (64, 128, 256, 512)

Remat = Literal["none", "activations", "blocks"]


def _chain_shape(layers: Iterable, shape: tuple, *, build: bool = False) -> tuple:
    """The shape after layers that follow one another, which are built if requested."""
    for layer in layers:
        if build:
            layer.build(shape)
        shape = layer.compute_output_shape(shape)
    return shape


class _ResidualBlock(keras.layers.Layer):
    """A chain of convolutions added to a shortcut, then ReLU."""

    def __init__(self, convs, shortcut, **kwargs):
        super().__init__(**kwargs)
        self.shortcut = shortcut
        self.convs = convs

    def build(self, input_shape: tuple) -> None:
        _chain_shape(self.convs, input_shape, build=True)
        if self.shortcut is not None:
            self.shortcut.build(input_shape)

    def call(self, x: Any, training: bool | None = None, chained: bool = False) -> Any:
        y = in_sequence(self.convs, x, training=training, chained=chained)
        if self.shortcut is not None:
            x = self.shortcut(x, training=training)
        return ops.relu(x + y)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return _chain_shape(self.convs, input_shape)


def _basic(filters, strides, dilations, stride_in_1x1, options):
    """Two 3x3 convolutions (depths 18 and 34)."""
    del stride_in_1x1  # there is no 1x1 convolution
    return [
        ConvNorm(filters, 3, strides=strides, dilation_rate=dilations[0], name="conv1", **options),
        ConvNorm(filters, 3, dilation_rate=dilations[1], activation=False, name="conv2", **options),
    ]


def _bottleneck(filters, strides, dilations, stride_in_1x1, options):
    """1x1, 3x3 and 1x1 convolutions (depths 50 and up)."""
    first, second = (strides, 1) if stride_in_1x1 else (1, strides)
    return [
        ConvNorm(filters, 1, strides=first, name="conv1", **options),
        ConvNorm(filters, 3, strides=second, dilation_rate=dilations[0], name="conv2", **options),
        ConvNorm(4 * filters, 1, activation=False, name="conv3", **options),
    ]


@keras.saving.register_keras_serializable("keras_psp")
class DilatedResNet(keras.layers.Layer):
    """ResNet whose last stages keep their resolution by dilation instead of stride.

    Args:
        depth: 18, 34, 50, 101, 152 or 269.
        output_stride: ratio of input size to feature map size: 8 (the last two stages have
            dilations 2 and 4), 16 (the last stage has dilation 2) or 32.
        dilations: dilations of the four stages, if they aren't those of the output stride, e.g.
            (1, 1, 2, 4) at output stride 32, as in mmsegmentation's `d32` models.
        stem_filters: channels of three 3x3 convolutions, (64, 64, 128) as in semseg or
            (32, 32, 64) as in mmsegmentation; a single number, (64,), is the 7x7 convolution
            of the original ResNet.
        contract_dilation: whether the first block of a dilated stage has half of the stage's
            dilation, as in mmsegmentation but not in semseg. (At depths 18 and 34: only the
            first of its two convolutions.)
        dilate_second: whether the second convolution of a block is dilated like the first, at
            depths 18 and 34; False in mmsegmentation.
        num_stages: number of residual stages, 2 to 4; 2 in segmentation_models.pytorch.
        stride_in_1x1: whether a bottleneck has its stride in the first 1x1 convolution
            (ResNet v1, Caffe) instead of in the 3x3 convolution (v1.5, torch).
        use_bias: whether the convolutions have a bias.
        epsilon, momentum, synchronized: BatchNorm options, see `ConvNorm`.
        remat: what training recomputes in the backward pass instead of storing, with the same
            result: "none"; "activations", the outputs of BatchNorm and ReLU between two
            convolutions; or "blocks", everything inside the stem and each residual block.

    Input:  (batch, height, width, channels), normalized.
    Output: (auxiliary, features), the maps of the last two stages (torch's `layer3` and
        `layer4`): (batch, h, w, 1024) and (batch, h, w, 2048), or 256 and 512 channels at
        depths 18 and 34. For the features, h = ceil(height / output_stride); the auxiliary map
        is twice as high and wide if the last stage has a stride, as at output stride 32.

    Raises:
        ValueError: if an argument has an unsupported value.

    Example:
        backbone = DilatedResNet(50, output_stride=8)
        auxiliary, features = backbone(keras.random.normal((1, 240, 240, 3)))
        features.shape  # (1, 30, 30, 2048)
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
        remat: Remat = "activations",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        positive = functools.partial(checked_integer, least=1)
        self.depth = checked_choice("depth", depth, sorted(BLOCKS))
        self.output_stride = checked_choice("output_stride", output_stride, (8, 16, 32))
        self.dilations = None
        if dilations is not None:
            self.dilations = checked_tuple("dilations", dilations, positive, length=4)
        self.stem_filters = checked_tuple("stem_filters", stem_filters, positive)
        if len(self.stem_filters) not in (1, 3):
            raise ValueError(
                f"stem_filters={self.stem_filters} has {len(self.stem_filters)} values; give one "
                "(a 7x7 convolution) or three (3x3 convolutions)."
            )
        self.contract_dilation = checked_flag("contract_dilation", contract_dilation)
        self.dilate_second = checked_flag("dilate_second", dilate_second)
        self.num_stages = checked_choice("num_stages", num_stages, (2, 3, 4))
        self.stride_in_1x1 = checked_flag("stride_in_1x1", stride_in_1x1)
        self.use_bias = checked_flag("use_bias", use_bias)
        store_norm_options(self, epsilon, momentum, synchronized)
        self.remat = checked_choice("remat", remat, get_args(Remat))
        options = {"use_bias": self.use_bias, "dtype": self.dtype_policy, **norm_options(self)}
        size = 7 if len(self.stem_filters) == 1 else 3
        self.stem = [
            ConvNorm(filters, size, strides=1 if i else 2, name=f"stem_conv{i + 1}", **options)
            for i, filters in enumerate(self.stem_filters)
        ]
        try:
            self.stages = self._stages(options)
        except ValueError as error:
            raise ValueError(f"dilations={self.dilations}: {error}") from None
        # Keras before 3.15 silently omits lists of lists when saving. These names are the paths
        # that Keras 3.15 uses, so that either version opens the other's files.
        for i, blocks in enumerate(self.stages):
            setattr(self, f"stages/container_{i}" if i else "stages/container", blocks)
        freeze_inner(self)

    def _stages(self, options):
        """One list of blocks per stage; past the output stride, strides become dilation."""
        expansion = 1 if self.depth < 50 else 4
        make = _basic if self.depth < 50 else _bottleneck
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
                first = block == 0
                contracted = first and self.contract_dilation and dilated_here
                shortcut = None
                if first and (strides > 1 or channels != expansion * filters):
                    projection = {"strides": strides, "activation": False, "name": "shortcut"}
                    shortcut = ConvNorm(expansion * filters, 1, **projection, **options)
                step = strides if first else 1
                inner = dilation // 2 if contracted else dilation
                dilations = (inner, dilation if self.dilate_second else 1)
                convs = make(filters, step, dilations, self.stride_in_1x1, options)
                name = f"stage{stage + 2}_block{block + 1}"
                blocks.append(_ResidualBlock(convs, shortcut, name=name, dtype=self.dtype_policy))
            channels = expansion * filters
            stages.append(blocks)
        return stages

    def build(self, input_shape: tuple) -> None:
        self._stage_shapes(input_shape, build=True)

    def call(self, x: Any, training: bool | None = None) -> Any:
        options = {"training": training, "chained": self.remat == "activations"}

        def run(function, layers, x):
            function = functools.partial(function, **options)
            recomputes = training and self.remat == "blocks"
            return recomputed(function, layers, x) if recomputes else function(x)

        x = run(functools.partial(in_sequence, self.stem, then=_max_pool), self.stem, x)
        maps = []
        for blocks in self.stages:
            for block in blocks:
                x = run(block, [block], x)
            maps.append(x)
        return maps[-2], maps[-1]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        *_, auxiliary, features = self._stage_shapes(input_shape)
        return auxiliary, features

    def _stage_shapes(self, input_shape, build=False):
        shapes = [pooled_shape(_chain_shape(self.stem, input_shape, build=build))]
        for blocks in self.stages:
            shapes.append(_chain_shape(blocks, shapes[-1], build=build))
        return shapes

    def get_config(self) -> dict[str, Any]:
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
            "remat": self.remat,
            **norm_options(self),
        }


def _max_pool(x):
    if keras.backend.backend() == "torch":  # without Keras' copies to another layout
        import torch

        return torch.nn.functional.max_pool2d(x.movedim(-1, 1), 3, 2, 1).movedim(1, -1)
    # After a ReLU, padding with zeros is equal to torch's padding with -inf.
    x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    if keras.backend.backend() == "jax":
        # XLA's gradient of pooling sorts out indices in four maps of the input's size.
        rows = functools.reduce(ops.maximum, (x[:, :-2:2], x[:, 1:-1:2], x[:, 2::2]))
        columns = rows[:, :, :-2:2], rows[:, :, 1:-1:2], rows[:, :, 2::2]
        return functools.reduce(ops.maximum, columns)
    return ops.max_pool(x, 3, 2, padding="valid", data_format="channels_last")


def pooled_shape(shape: tuple) -> tuple:
    """Shape after the max pooling of the stem."""
    return (shape[0], *(None if n is None else -(-n // 2) for n in shape[1:3]), shape[3])
