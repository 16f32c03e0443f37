"""Maps other projects' tensor names to the weights of a PSPNet: one table, one loop.

A family's table names the convolution and the BatchNorm of each part of a PSPNet:

    "stem":        a list, one (convolution, normalization) pair per stem convolution
    "block":       a residual block, with {conv} or as a list, one pair per convolution
    "shortcut":    the block's projection
    "level":       a level of the pyramid, smallest grid first
    "fusion", "classifier", "auxiliary", "auxiliary_classifier"

In the names, {stage} counts the residual stages from 1, {stage2} from 2; {block} the
blocks of a stage from 0, {block1} from 1; {conv} the convolutions of a block from 1,
{index} those of a stage of bottlenecks from 0; {level} the pyramid's levels from 0,
{level1} from 1; {bins} is the level's grid.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_psp.layers.resnet import BLOCKS, DilatedResNet
from keras_psp.weights.files import Checkpoint, WeightsFileError
from keras_psp.weights.files.errors import printable

DEFAULT_BINS = (1, 2, 3, 6)
_MOST_BLOCKS = [max(counts) for counts in zip(*BLOCKS.values(), strict=True)]  # of each stage


@dataclasses.dataclass(frozen=True)
class Suffixes:
    """The suffixes that a framework appends to a layer's name for its variables.

    Attributes:
        axes: permutes a stored kernel's axes to Keras' (height, width, input channels,
            output channels).
        ignored: suffixes of tensors that inference doesn't use.
    """

    kernel: str
    bias: str
    gamma: str
    beta: str
    moving_mean: str
    moving_variance: str
    axes: tuple[int, ...] = (2, 3, 1, 0)
    ignored: tuple[str, ...] = ()


_TORCH = (".weight", ".bias", ".weight", ".bias", ".running_mean", ".running_var")
TORCH = Suffixes(*_TORCH, ignored=(".num_batches_tracked",))
MXNET = Suffixes(".weight", ".bias", ".gamma", ".beta", ".running_mean", ".running_var")
CAFFE = Suffixes("/0", "/1", "/0", "/1", "/2", "/3")
_KERAS = ("/kernel", "/bias", "/gamma", "/beta", "/moving_mean", "/moving_variance")
KERAS = Suffixes(*_KERAS, axes=(0, 1, 2, 3))


def torch_residual(prefix: str = "") -> dict[str, Any]:
    """Returns "block" and "shortcut" of torchvision's ResNet, whose names most projects keep."""
    unit = prefix + "layer{stage}.{block}."
    return {
        "block": [(f"{unit}conv{n}", f"{unit}bn{n}") for n in (1, 2, 3)],
        "shortcut": (f"{unit}downsample.0", f"{unit}downsample.1"),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Family:
    """How one project names, builds and normalizes its networks.

    Attributes:
        name: the project's name, as in the documentation.
        title: description of the network in messages.
        signs: tensor names by which the family is recognized; all must be present.
        parts: the table of names; see the module.
        suffixes: those of the framework.
        ignored: regular expressions for names of tensors that a PSPNet doesn't use.
        concatenation: order of the fusion kernel's input channels: "features" and the
            levels' indices in the pyramid. Default: features, then the levels.
        backbone: arguments of `DilatedResNet`.
        network: arguments of `PSPNet`, except those that the tensors' shapes determine.
        describe: function from a checkpoint and the arguments so far to further arguments,
            which the shapes don't show.

    `keras_psp/weights/families/semseg.py` is a short example.
    """

    name: str
    title: str
    signs: Sequence[str]
    parts: Mapping[str, Any]
    suffixes: Suffixes = TORCH
    ignored: Sequence[str] = ()
    concatenation: Sequence[Any] | None = None
    backbone: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    describe: Callable[[Checkpoint, dict], dict] | None = None

    def matches(self, names: Iterable[str]) -> bool:
        """Returns whether tensors of these names belong to this family."""
        return set(self.signs).issubset(names)

    def pair(self, part: str, **fields: Any) -> tuple[str, str | None]:
        """Returns the names of one part's convolution and BatchNorm, or None without BatchNorm."""
        entry = self.parts[part]
        if isinstance(entry, list):
            entry = entry[fields["conv"] - 1]
        conv, norm = (entry, None) if isinstance(entry, str) else entry
        if "stage" in fields:
            fields |= {"stage2": fields["stage"] + 1, "block1": fields["block"] + 1}
            fields["index"] = 3 * fields["block"] + fields.get("conv", 1) - 1
        if "level" in fields:
            fields["level1"] = fields["level"] + 1
        return conv.format(**fields), None if norm is None else norm.format(**fields)

    def kernel(self, part: str, **fields: Any) -> str:
        """Returns the name of one part's kernel."""
        return self.pair(part, **fields)[0] + self.suffixes.kernel

    def with_background(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the tensors, with two classes in place of a classifier's one output.

        Its sigmoid is the softmax of 0, the background's logit, and the output: exact.
        """
        changed: dict[str, Any] = {}
        for part in {"classifier", "auxiliary_classifier"} & self.parts.keys():
            name = self.kernel(part)
            if name in tensors and self._shape(tensors, name)[3] == 1:
                bias = self.pair(part)[0] + self.suffixes.bias
                for key, axis in ((name, self.suffixes.axes[3]), (bias, -1)):
                    if key in tensors:
                        value = np.asarray(tensors[key])
                        changed[key] = np.concatenate([np.zeros_like(value), value], axis)
        return {**tensors, **changed} if changed else tensors

    def architecture(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Derives the arguments of `PSPNet`, and of its `DilatedResNet`, from the tensors' shapes.

        Raises:
            WeightsFileError: if the tensors aren't those of a ResNet.
        """
        arguments = {**self.network, "backbone": self.backbone_architecture(tensors)}
        if "classifier" not in self.parts:
            return arguments
        classifier = self._shape(tensors, self.kernel("classifier"))
        fusion = self._shape(tensors, self.kernel("fusion"))
        arguments |= {
            "num_classes": classifier[3],
            "classifier_kernel_size": classifier[0],
            "fusion_filters": fusion[3],
            "fusion_kernel_size": fusion[0],
        }
        levels = [self.kernel("level", level=n, bins=bins) for n, bins in enumerate(DEFAULT_BINS)]
        arguments["bin_sizes"] = ()
        if any(name in tensors for name in levels):
            arguments["bin_sizes"] = DEFAULT_BINS
            arguments["reduction"] = self._shape(tensors, levels[0])[3]
        arguments["aux_weight"] = 0
        if "auxiliary" in self.parts:
            names = [self.kernel(part) for part in ("auxiliary", "auxiliary_classifier")]
            if any(name in tensors for name in names):
                arguments["aux_weight"] = 0.4
                arguments["aux_filters"] = self._shape(tensors, names[0])[3]
        return arguments

    def backbone_architecture(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Derives the arguments of `DilatedResNet` from the tensors' names and shapes."""
        counts = [self._blocks(tensors, stage) for stage in (1, 2, 3, 4)]
        # A PSPNet has all stages; ImageNet weights may end after an earlier one.
        cut = "classifier" not in self.parts and sum(n > 0 for n in counts)
        stages = self.backbone.get("num_stages") or cut or 4
        bottleneck = any(
            self.kernel("block", stage=stage, block=0, conv=3) in tensors for stage in (1, 2)
        )
        depths = [
            depth
            for depth, blocks in BLOCKS.items()
            if list(blocks)[:stages] == counts[:stages] and bottleneck == (depth >= 50)
        ]
        if len(depths) > 1:  # the first stages of 50 and 101 are equal
            depths = [depth for depth in depths if list(BLOCKS[depth]) == counts] or depths
        if not depths or stages < 2:
            raise WeightsFileError(
                f"its stages have {counts} {'bottleneck' if bottleneck else 'basic'} blocks, "
                "which isn't a known ResNet."
            )
        convs = range(1, len(self.parts["stem"]) + 1)
        stem = [self._shape(tensors, self.kernel("stem", conv=conv))[3] for conv in convs]
        cut_off = {} if stages == 4 else {"num_stages": stages}
        return {**self.backbone, **cut_off, "depth": depths[0], "stem_filters": tuple(stem)}

    def _blocks(self, tensors, stage):
        """Number of blocks of a stage; any of its convolutions shows that a block exists."""
        counts = [
            block + 1
            for block in range(_MOST_BLOCKS[stage - 1])
            for conv in (1, 2, 3)
            if self.kernel("block", stage=stage, block=block, conv=conv) in tensors
        ]
        return max(counts, default=0)

    def resemblance(self, tensors: Mapping[str, Any]) -> list[str]:
        """Returns those names that are present, out of a few that every file of the family has."""
        names = [*self.signs, self.kernel("stem", conv=1)]
        names += [self.kernel("block", stage=n, block=0, conv=1) for n in (1, 2)]
        if "classifier" in self.parts:
            names += [self.kernel(part) for part in ("fusion", "classifier")]
        return [name for name in dict.fromkeys(names) if name in tensors]

    def _shape(self, tensors, name):
        """Shape of a kernel in Keras' axis order."""
        if name not in tensors:
            raise WeightsFileError(f"tensor {name!r} is missing.")
        shape = tensors[name].shape
        if len(shape) != 4:
            raise WeightsFileError(
                f"tensor {name!r} has shape {tuple(shape)}, but a convolution's has 4 axes."
            )
        return tuple(int(shape[axis]) for axis in self.suffixes.axes)

    def up_to(self, tensors: Mapping[str, Any], stages: int) -> dict[str, Any]:
        """Returns the tensors without those of residual stages after the first `stages`."""
        beyond = {
            name
            for stage in range(stages + 1, 5)
            for block in range(_MOST_BLOCKS[stage - 1])
            for conv in (1, 2, 3)
            for part in ("block", "shortcut")
            for name in self.pair(part, stage=stage, block=block, conv=conv)
        }
        separator = self.suffixes.kernel[0]  # before a variable's name
        return {n: t for n, t in tensors.items() if n.rpartition(separator)[0] not in beyond}

    def load(self, model: Any, tensors: Mapping[str, Any], *, stages: int = 4) -> None:
        """Loads the tensors into all weights of a PSPNet, or of a built backbone.

        `stages` is the number of residual stages in the tensors; later ones are unchanged.

        Raises:
            WeightsFileError: naming the tensors that are missing, unexpected or of another
                shape. The model is then unchanged.
        """
        # (variable, name, name of a bias to subtract or None)
        plan: list[tuple[Any, str, str | None]] = []
        for part, fields, conv, norm in parts_of(model):
            if fields.get("stage", 0) > stages:
                continue
            conv_name, norm_name = self.pair(part, **fields)
            bias = conv_name + self.suffixes.bias
            plan.append((conv.kernel, conv_name + self.suffixes.kernel, None))
            biased = getattr(conv, "bias", None) is not None
            if biased:
                plan.append((conv.bias, bias, None))
            if norm is not None:
                for variable in ("gamma", "beta", "moving_mean", "moving_variance"):
                    # A bias before BatchNorm only shifts the mean: exact.
                    folds = variable == "moving_mean" and bias in tensors and not biased
                    name = norm_name + getattr(self.suffixes, variable)
                    plan.append((getattr(norm, variable), name, bias if folds else None))
        self._check(plan, tensors)
        for variable, name, folded in plan:
            value = np.asarray(tensors[name])
            if value.ndim == len(variable.shape) == 4:
                value = self._arranged(value, name, tensors)
            value = value.reshape(variable.shape)
            if folded is not None:
                value = value - np.asarray(tensors[folded]).reshape(variable.shape)
            variable.assign(np.ascontiguousarray(value, variable.dtype))

    def _arranged(self, kernel, name, tensors):
        """A kernel in Keras' axis order and, for the fusion, our order of input channels."""
        kernel = kernel.transpose(self.suffixes.axes)
        if self.concatenation is None or name != self.kernel("fusion"):
            return kernel
        levels = len(self.concatenation) - 1
        width = self._shape(tensors, self.kernel("level", level=0, bins=1))[3]
        features = kernel.shape[2] - levels * width
        sizes = [features if part == "features" else width for part in self.concatenation]
        pieces = np.split(kernel, np.cumsum(sizes)[:-1], axis=2)
        by_part = dict(zip(self.concatenation, pieces, strict=True))
        return np.concatenate([by_part[part] for part in ("features", *range(levels))], axis=2)

    def _check(self, plan, tensors):
        used = {name for _, *names in plan for name in names if name}
        unused = sorted(tensors.keys() - used)
        wrong = []
        for variable, name, _ in plan:
            if name not in tensors:
                continue
            shape, wanted = tuple(tensors[name].shape), tuple(variable.shape)
            if len(wanted) == 4:
                kind = "a kernel (height, width, input, output)"
                fits = len(shape) == 4 and tuple(shape[n] for n in self.suffixes.axes) == wanted
            else:  # Caffe stores vectors as (1, n, 1, 1)
                kind = "a vector"
                fits = [n for n in shape if n > 1] == [n for n in wanted if n > 1]
            if not fits:
                wrong.append(f"{printable(name)} {shape}, which should be {kind} {wanted}")
        problems = [
            f"{title} {_listed(names)}"
            for title, names in (
                ("lacks", sorted(used - tensors.keys())),
                ("has in the wrong shape", wrong),
                ("has unexpected", [printable(n) for n in unused if not self._ignores(n)]),
            )
            if names
        ]
        if problems:
            raise WeightsFileError(f"as {self.title} it {'; '.join(problems)}. Nothing was loaded.")

    def _ignores(self, name):
        return name.endswith(self.suffixes.ignored) or any(
            re.fullmatch(pattern, name) for pattern in self.ignored
        )


def parts_of(model: Any) -> Iterator[tuple[str, dict[str, int], Any, Any]]:
    """Yields (part, fields, convolution, BatchNorm or None) of every trained layer.

    The model is a `PSPNet` on a `DilatedResNet`, or a built `DilatedResNet` alone.
    """
    alone = isinstance(model, DilatedResNet)
    backbone = model if alone else model.backbone
    for index, unit in enumerate(backbone.stem):
        yield "stem", {"conv": index + 1}, unit.conv, unit.norm
    for stage, blocks in enumerate(backbone.stages, start=1):
        for index, block in enumerate(blocks):
            fields = {"stage": stage, "block": index}
            for conv, unit in enumerate(block.convs, start=1):
                yield "block", {**fields, "conv": conv}, unit.conv, unit.norm
            if block.shortcut is not None:
                yield "shortcut", fields, block.shortcut.conv, block.shortcut.norm
    if alone:
        return
    pyramid = model.get_layer("pyramid_pooling")
    for level, unit in enumerate(pyramid.reductions):
        fields = {"level": level, "bins": pyramid.bin_sizes[level]}
        yield "level", fields, unit.conv, unit.norm
    yield "fusion", {}, pyramid.fusion, pyramid.norm
    yield "classifier", {}, model.get_layer("classifier"), None
    if model.aux_weight > 0:
        head = model.get_layer("auxiliary_head")
        yield "auxiliary", {}, head.conv.conv, head.conv.norm
        yield "auxiliary_classifier", {}, head.classifier, None


def _listed(names):
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
