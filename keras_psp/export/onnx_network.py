"""The network as an ONNX graph, optimized for inference; needs only numpy and onnx."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_psp.export.graph import Signature, class_dtype
from keras_psp.layers import winograd
from keras_psp.layers.folding import fold
from keras_psp.layers.resampling import interpolation_matrix, pooling_matrix
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

OPSET = 17
IR_VERSION = 8
"""From the same year as the opset, 2022, so that older runtimes can read the files, too."""

TYPES = {"float32": 1, "uint8": 2, "uint16": 4, "int64": 7}  # onnx.TensorProto


class Graph:
    """Nodes and constants of a graph, built one operation at a time."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []  # onnx.NodeProto
        self.constants: list[Any] = []  # onnx.TensorProto
        # Names of the nodes that are worth quantizing: the backbone and the fusion.
        self.quantizable: list[str] = []
        self._named: dict[Any, str] = {}

    def constant(self, value: npt.ArrayLike, dtype: str = "float32") -> str:
        """Returns the name of a constant; small equal constants are stored once."""
        from onnx import numpy_helper

        array = np.array(value, dtype, order="C")
        small = array.size < 2**16
        key = (array.tobytes(), array.shape, dtype) if small else len(self.constants)
        if key not in self._named:
            self._named[key] = f"constant{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._named[key]))
        return self._named[key]

    def integers(self, *values: int) -> str:
        """Returns the name of a constant int64 vector."""
        return self.constant(values, "int64")

    def integer(self, value: int) -> str:
        """Returns the name of a constant int64 number."""
        return self.constant(value, "int64")

    def add(self, operation: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Appends an operation and returns the name of its only output."""
        from onnx import helper

        output = name or f"{operation.lower()}{len(self.nodes)}"
        node = helper.make_node(operation, list(inputs), [output], name=output, **attributes)
        self.nodes.append(node)
        return output


def network(
    model: PSPNet,
    signature: Signature,
    *,
    use_winograd: bool = True,
    channels_first: bool = False,
    split_fusion: bool = False,
) -> Graph:
    """Builds the graph of a network with a `DilatedResNet`, from "image" to its output.

    Convolutions have their channels first, as the runtimes prefer, except for Winograd's.

    Args:
        use_winograd: compute 3x3 convolutions of many channels with fewer multiplications if
            the image's size is known: fastest in float32. Its sums and differences lose too many
            of bfloat16's eight bits, and are too coarse for quantization.
        channels_first: compute class maps from scores (batch, classes, height, width). OpenVINO
            then finds the best class 20 times faster; ONNX Runtime is faster with classes last.
        split_fusion: let the fusion convolve half of the features' channels at a time: 12 to
            20 % faster in OpenVINO's bfloat16, since the kernels then stay in the cache.
    """
    return _Writer(model, signature, use_winograd, channels_first, split_fusion).graph


class _Writer:
    """Walks through a model and appends its operations to a graph."""

    # Rows of class scores computed at a time, so that argmax finds them in the cache.
    ROWS = 32

    def __init__(self, model, signature, use_winograd, channels_first, split_fusion):
        self.graph, self.model = Graph(), model
        self.channels_first, self.split_fusion = channels_first, split_fusion
        self.use_winograd = use_winograd and signature.image_size is not None
        # TensorRT takes uint8 only straight into a Cast.
        image = self._float("image")
        full = signature.image_size or self._checked_size(image)
        x = self._normalized(image, model.get_layer("normalization"))
        before = len(self.graph.nodes)
        x, size = self._backbone(x, full, model.backbone)
        self.graph.quantizable = [node.name for node in self.graph.nodes[before:]]
        x, layout = self._pyramid(x, size, model.get_layer("pyramid_pooling"))
        temperature = 1.0 if signature.output == "classes" else model.temperature
        x, layout = self._classifier(x, layout, model.get_layer("classifier"), temperature)
        self._output(x, layout, size, full, signature)

    def _checked_size(self, image):
        """Height and width; the runtime raises an error if the image is too small."""
        add, integer, integers = self.graph.add, self.graph.integer, self.graph.integers
        least = smallest_side(self.model)
        sides = add("Slice", add("Shape", image), integers(1), integers(3))
        too_small = add("Less", add("ReduceMin", sides, keepdims=0), integer(least))
        count = add("Add", add("Cast", too_small, to=TYPES["int64"]), integer(2))
        # The two sides can't be broadcast to three numbers. Errors contain the node's name.
        numbers = add("Range", integer(0), count, integer(1))
        sides = add("Max", sides, numbers, name=f"image_needs_{least}_pixels_per_side")
        return tuple(add("Gather", sides, integer(axis), axis=0) for axis in (0, 1))

    def _normalized(self, image, layer):
        """(batch, height, width, channels) to (batch, channels, height, width)."""
        add, constant = self.graph.add, self.graph.constant
        x = add("Transpose", image, perm=[0, 3, 1, 2])
        if layer.channel_order == "bgr":
            x = add("Gather", x, self.graph.integers(2, 1, 0), axis=1)
        mean, std = (np.reshape(values, (-1, 1, 1)) for values in (layer.mean, layer.std))
        return add("Mul", add("Sub", x, constant(mean)), constant(1.0 / std))

    def _backbone(self, x, size, backbone):
        add = self.graph.add
        for conv in backbone.stem:
            x, size = self._conv(x, size, conv)
        x = add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        size = self._strided(size, 2)
        for blocks in backbone.stages:
            for block in blocks:
                y, inner = x, size
                for conv in block.convs[:-1]:
                    y, inner = self._conv(y, inner, conv)
                if block.shortcut is not None:
                    x, _ = self._conv(x, size, block.shortcut)
                y, size = self._conv(y, inner, block.convs[-1])
                x = add("Relu", add("Add", y, x))
        return x, size

    def _conv(self, x, size, layer):
        """A `ConvNorm`, channels first."""
        kernel, bias = layer.folded_weights()
        conv, add = layer.conv, self.graph.add
        stride = conv.strides[0] * conv.subsampling
        dilation = conv.dilation_rate[0] * conv.subsampling
        use_winograd = self.use_winograd and winograd.pays(kernel.shape, size, stride, dilation)
        if use_winograd:
            x = self._winograd(add("Transpose", x, perm=[0, 2, 3, 1]), size, kernel, dilation)
            x = add("Add", x, self.graph.constant(bias))
        else:
            x = self._plain(x, kernel, bias, stride, dilation)
        if layer.activation:
            x = add("Relu", x)
        if use_winograd:
            x = add("Transpose", x, perm=[0, 3, 1, 2])
        return x, self._strided(size, stride)

    def _winograd(self, x, size, kernel, dilation, term=None):
        """A 3x3 convolution, channels last, one column of the tiles at a time.

        The term, (map, matrix of its columns), is added in the last matrix product.
        """
        add, constant, integers = self.graph.add, self.graph.constant, self.graph.integers
        channels, filters = kernel.shape[2:]
        rows, columns = (winograd.axis(n, dilation) for n in size)
        # Runtimes compute this when they load the file, which therefore stays small.
        kernel = constant(kernel.reshape(9, channels * filters))
        matrices = winograd.kernel_matrix(rows, columns)
        count, tiles, _ = rows.inputs.shape
        rows_in = constant(rows.inputs.reshape(count * tiles, size[0]))
        rows_out = constant(rows.outputs.reshape(size[0], count * tiles))
        parts = []
        for matrix, columns_in in zip(matrices, columns.inputs, strict=True):
            weights = add("MatMul", constant(matrix), kernel)
            weights = add("Reshape", weights, integers(-1, channels, filters))
            y = add("MatMul", constant(columns_in), x)
            y = add("MatMul", rows_in, add("Reshape", y, integers(0, 0, -1)))
            y = add("Reshape", y, integers(0, count, -1, channels))
            y = add("MatMul", y, weights)
            y = add("Reshape", y, integers(0, count * tiles, -1))
            y = add("MatMul", rows_out, y)
            parts.append(add("Reshape", y, integers(0, 0, -1, filters)))
        matrix = columns.outputs.reshape(size[1], -1)
        if term is not None:
            parts.append(term[0])
            matrix = np.concatenate([matrix, term[1]], axis=1)
        return add("MatMul", constant(matrix), add("Concat", *parts, axis=2))

    def _pyramid(self, x, size, layer):
        """A `PyramidPoolingModule`: channels first, but last in the output after Winograd."""
        add, constant = self.graph.add, self.graph.constant
        kernel, bias = layer.folded_weights()
        reductions = [reduction.folded_weights() for reduction in layer.reductions]
        levels = len(layer.bin_sizes)
        widths = [weights.shape[-1] for weights, _ in reductions]
        widths = widths or [kernel.shape[2] // (1 + levels)] * levels
        ends = np.cumsum([kernel.shape[2] - sum(widths), *widths])
        own, *kernels = np.split(kernel, ends[:-1], axis=2)
        term = self._levels_term(x, size, layer, kernels, reductions) if levels else None
        if self.use_winograd and winograd.pays(own.shape, size, 1, 1):
            x = add("Transpose", x, perm=[0, 2, 3, 1])
            if term is not None:
                term = (add("Transpose", term[0], perm=[0, 2, 3, 1]), term[1])
            x = self._winograd(x, size, own, 1, term)
            return add("Relu", add("Add", x, constant(bias))), "last"
        x = self._in_halves(x, own, bias) if self.split_fusion else self._plain(x, own, bias)
        if term is not None:
            columns = self._name(self._transposed(term[1]))
            x = add("Add", x, add("MatMul", term[0], columns))
        return add("Relu", x), "first"

    def _levels_term(self, x, size, layer, kernels, reductions):
        """The levels' part of the fusion: see `FactorizedFusion`.

        Returns (batch, filters, height, columns of all levels), and the matrix (width, columns)
        that remains to be applied.
        """
        add, integers = self.graph.add, self.graph.integers
        terms, columns = [], []
        pooled, cells = self._finest(x, size, layer)
        for index, (bins, kernel) in enumerate(zip(layer.bin_sizes, kernels, strict=True)):
            taps, _, channels, filters = kernel.shape
            level = self._pooled(pooled, cells, bins, layer.pooling)
            if reductions:
                level = add("Relu", self._plain(level, *reductions[index]))
            kernel = kernel.transpose(2, 0, 1, 3).reshape(1, 1, channels, taps * taps * filters)
            products = self._plain(level, kernel)
            products = add("Reshape", products, integers(-1, taps, taps, filters, bins, bins))
            products = add("Transpose", products, perm=[0, 3, 1, 4, 2, 5])
            products = add("Reshape", products, integers(-1, filters, taps * bins, taps * bins))
            terms.append(add("MatMul", self._name(self._taps(bins, size[0], taps)), products))
            columns.append(self._taps(bins, size[1], taps))
        return add("Concat", *terms, axis=3), self._joined(columns)

    def _finest(self, x, size, layer):
        """The finest level and its size, if all others can be pooled from it; else the features."""
        finest = max(layer.bin_sizes)
        if not all(isinstance(n, int) and n % finest == 0 for n in size):
            return x, size
        if any(finest % bins for bins in layer.bin_sizes):
            return x, size
        return self._pooled(x, size, finest, layer.pooling), (finest, finest)

    def _pooled(self, x, size, bins, pooling):
        """Adaptive pooling of (batch, channels, height, width) to bins x bins cells."""
        if size == (bins, bins):
            return x
        add = self.graph.add
        if isinstance(size[0], int) and all(n % bins == 0 for n in size):
            operation = "MaxPool" if pooling == "max" else "AveragePool"
            cell = [n // bins for n in size]
            return add(operation, x, kernel_shape=cell, strides=cell)
        if pooling == "max":
            return self._largest(x, size, bins)
        rows, columns = (self._pooling(n, bins) for n in size)
        x = add("MatMul", x, self._name(self._transposed(columns)))
        return add("MatMul", self._name(rows), x)

    def _largest(self, x, size, bins):
        """Adaptive max pooling with cells of different sizes."""
        if not isinstance(size[0], int):
            raise ValueError(
                "a pyramid of max pools is exported at one size only; give "
                "image_size=(height, width)."
            )
        for axis, length in ((2, size[0]), (3, size[1])):
            cells = []
            for index in range(bins):
                ends = (index * length) // bins, -((-(index + 1) * length) // bins)
                ends = [self.graph.integers(n) for n in (*ends, axis)]
                cell = self.graph.add("Slice", x, *ends)
                cells.append(self.graph.add("ReduceMax", cell, axes=[axis], keepdims=1))
            x = self.graph.add("Concat", *cells, axis=axis)
        return x

    def _plain(self, x, kernel, bias=None, stride=1, dilation=1):
        """A padded convolution, channels first."""
        side = kernel.shape[0]
        weights = [self.graph.constant(kernel.transpose(3, 2, 0, 1))]
        if bias is not None:
            weights.append(self.graph.constant(bias))
        x = self.graph.add(
            "Conv",
            x,
            *weights,
            kernel_shape=[side, side],
            strides=[stride, stride],
            dilations=[dilation, dilation],
            pads=[dilation * (side // 2)] * 4,
        )
        self.graph.quantizable.append(x)
        return x

    def _in_halves(self, x, kernel, bias):
        """The same convolution as the sum of two, each over half of the channels."""
        add, integers = self.graph.add, self.graph.integers
        channels, sums = kernel.shape[2], []
        for start, end in ((0, channels // 2), (channels // 2, channels)):
            part = add("Slice", x, integers(start), integers(end), integers(1))
            sums.append(self._plain(part, kernel[:, :, start:end], None if start else bias))
        return add("Add", *sums)

    def _classifier(self, x, layout, layer, temperature):
        """Logits divided by the temperature, and whether their channels are "first" or "last"."""
        kernel, bias = (part / temperature for part in fold(layer.kernel, layer.bias, None))
        if layout == "last" and kernel.shape[0] == 1:
            x = self.graph.add("MatMul", x, self.graph.constant(kernel[0, 0]))
            return self.graph.add("Add", x, self.graph.constant(bias)), "last"
        if layout == "last":
            x = self.graph.add("Transpose", x, perm=[0, 3, 1, 2])
        x = self._plain(x, kernel, bias)
        self.graph.quantizable.pop()  # argmax compares its scores, which need all their digits
        return x, "first"

    def _output(self, x, layout, size, full, signature):
        """Upsampling, and the output computed from it."""
        add, classes = self.graph.add, self.model.num_classes
        kind = TYPES[class_dtype(classes)]
        rows, columns = map(self._interpolation, size, full)
        if signature.output == "classes" and self.channels_first:
            if layout == "last":
                x = add("Transpose", x, perm=[0, 3, 1, 2])
            x = add("MatMul", x, self._name(self._transposed(columns)))
            scores = (add("MatMul", self._name(block), x) for block in self._blocks(rows))
            best = [add("ArgMax", block, axis=1, keepdims=0) for block in scores]
            x = best[0] if len(best) == 1 else add("Concat", *best, axis=1)
            add("Cast", self._float(x), to=kind, name="classes")
            return
        if layout == "first":
            x = add("Transpose", x, perm=[0, 2, 3, 1])
        # (batch, height, width, classes): the columns, then the rows
        x = add("MatMul", self._name(columns), x)
        x = add("Reshape", x, self.graph.integers(0, 0, -1))
        if signature.output == "classes":
            best = [self._best(x, block) for block in self._blocks(rows)]
            x = best[0] if len(best) == 1 else add("Concat", *best, axis=1)
            add("Cast", self._float(x), to=kind, name="classes")
            return
        x = add("MatMul", self._name(rows), x)
        name = "logits" if signature.output == "logits" else None
        x = add("Reshape", x, self.graph.integers(0, 0, -1, classes), name=name)
        if signature.output == "probabilities":
            add("Softmax", x, axis=-1, name="probabilities")

    def _blocks(self, rows):
        """Splits the matrix of the rows into blocks, if the size is known."""
        if not isinstance(rows, np.ndarray):
            return [rows]
        return np.array_split(rows, -(-len(rows) // self.ROWS))

    def _best(self, x, rows):
        """Classes (batch, rows, width) from (batch, height, width * classes)."""
        add, integers = self.graph.add, self.graph.integers
        if isinstance(rows, np.ndarray):
            # A block depends on few rows of the map.
            (used,) = rows.any(axis=0).nonzero()
            x = add("Slice", x, integers(used[0]), integers(used[-1] + 1), integers(1))
            rows = rows[:, used[0] : used[-1] + 1]
        x = add("MatMul", self._name(rows), x)
        x = add("Reshape", x, integers(0, 0, -1, self.model.num_classes))
        return add("ArgMax", x, axis=-1, keepdims=0)

    # Matrices are numpy arrays if the sizes are known, else names of the graph's results.

    def _name(self, matrix):
        return matrix if isinstance(matrix, str) else self.graph.constant(matrix)

    def _joined(self, matrices):
        if all(isinstance(matrix, np.ndarray) for matrix in matrices):
            return np.concatenate(matrices, axis=1)
        return self.graph.add("Concat", *map(self._name, matrices), axis=1)

    def _transposed(self, matrix):
        if isinstance(matrix, np.ndarray):
            return matrix.T
        return self.graph.add("Transpose", matrix, perm=[1, 0])

    def _strided(self, size, stride):
        """Size of a map after a strided, symmetrically padded convolution."""
        if isinstance(size[0], int):
            return tuple(-(-n // stride) for n in size)
        if stride == 1:
            return size
        add, integer = self.graph.add, self.graph.integer
        return tuple(add("Div", add("Add", n, integer(stride - 1)), integer(stride)) for n in size)

    def _taps(self, bins, target, taps):
        """(target, taps * bins): bilinear rows shifted by each tap, zero past the map."""
        shifts = range(-(taps // 2), taps // 2 + 1)
        return self._joined([self._interpolation(bins, target, shift) for shift in shifts])

    def _interpolation(self, size, target, shift=0):
        """`keras_psp.layers.resampling.interpolation_matrix`, in integers until the end."""
        align_corners = self.model.align_corners
        if isinstance(size, int) and isinstance(target, int):
            return interpolation_matrix(size, target, align_corners=align_corners, shift=shift)
        add, integer = self.graph.add, self.graph.integer
        size, target = (integer(n) if isinstance(n, int) else n for n in (size, target))
        index = add("Add", add("Range", integer(0), target, integer(1)), integer(shift))
        last = add("Sub", size, integer(1))
        if align_corners:
            denominator = add("Max", add("Sub", target, integer(1)), integer(1))
            numerator = add("Mul", index, last)
        else:
            denominator = add("Mul", target, integer(2))
            numerator = add("Add", add("Mul", index, integer(2)), integer(1))
            numerator = add("Sub", add("Mul", numerator, size), target)
        numerator = add("Clip", numerator, integer(0), add("Mul", last, denominator))
        sources = add("Mul", add("Range", integer(0), size, integer(1)), denominator)
        numerator = add("Unsqueeze", numerator, self.graph.integers(1))
        distance = add("Abs", add("Sub", numerator, sources))
        near = add("Max", add("Sub", denominator, distance), integer(0))
        weights = add("Div", self._float(near), self._float(denominator))
        if shift == 0:
            return weights
        inside = add("Equal", index, add("Clip", index, integer(0), add("Sub", target, integer(1))))
        return add("Mul", weights, add("Unsqueeze", self._float(inside), self.graph.integers(1)))

    def _pooling(self, size, bins):
        """`keras_psp.layers.resampling.pooling_matrix`."""
        if isinstance(size, int):
            return pooling_matrix(size, bins)
        add, integer = self.graph.add, self.graph.integer
        index = self.graph.constant(np.arange(bins)[:, None], "int64")
        after = self.graph.constant(np.arange(1, bins + 1)[:, None], "int64")
        start = add("Div", add("Mul", index, size), integer(bins))
        end = add("Div", add("Add", add("Mul", after, size), integer(bins - 1)), integer(bins))
        pixels = add("Range", integer(0), size, integer(1))
        inside = add("And", add("GreaterOrEqual", pixels, start), add("Less", pixels, end))
        return add("Div", self._float(inside), self._float(add("Sub", end, start)))

    def _float(self, x):
        return self.graph.add("Cast", x, to=TYPES["float32"])
