"""Receptive fields: the pixels a prediction could depend on, and those it actually does."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.arguments import checked_pair
from keras_psp.files import written_aside
from keras_psp.layers.backbone import WINDOWS
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.models.bands import image_statistics
from keras_psp.models.checks import check_images
from keras_psp.models.pspnet import PSPNet
from keras_psp.progress import with_bar
from keras_psp.weights.locating import chosen_model
from keras_psp.weights.opening import open_model

_NOISE_IMAGES = 4
_GLOBAL = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ReceptiveField:
    """How much one prediction depends on each pixel.

    Attributes:
        gradient: (height, width) float64, mean over images of the gradient's magnitude; its sum
            is 1.
        center: (row, column) of the prediction, in pixels.
        theoretical_size: side of the square outside of which the gradient is zero, in pixels;
            None for the whole image.

    Example:
        field = receptive_field("runs/mine", images, pyramid=False)
        field.radius()  # 87.3, where field.theoretical_size is 971
    """

    gradient: np.ndarray
    center: tuple[float, float]
    theoretical_size: int | None

    def _distances(self):
        rows, columns = (
            np.arange(length) - middle
            for length, middle in zip(self.gradient.shape, self.center, strict=True)
        )
        return np.hypot(rows[:, None], columns)

    def radius(self, share: float = 0.95) -> float:
        """Radius of the circle around the prediction that contains a share of the gradient.

        Args:
            share: share of the gradient, above 0 and at most 1.

        Returns:
            Distance from the prediction to the outermost pixel needed, in pixels.

        Raises:
            ValueError: if the share is out of range.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share={share}; it must be above 0 and at most 1.")
        distances = self._distances().ravel()
        order = np.argsort(distances, kind="stable")
        sums = np.cumsum(self.gradient.ravel()[order])
        index = np.searchsorted(sums, share * sums[-1] * (1 - 1e-12))
        return float(distances[order[index]])

    def share_within(self, radius: float) -> float:
        """Share of the gradient within a circle; the radius is in pixels."""
        return float(self.gradient[self._distances() <= radius].sum())


def receptive_field(
    model: Any = None,
    images: Any = None,
    *,
    pixel: tuple[int, int] | None = None,
    pyramid: bool = True,
    image_size: tuple[int, int] = (473, 473),
    seed: int = 0,
    progress: bool = False,
) -> ReceptiveField:
    """Measures the effective receptive field of one prediction, averaged over images.

    Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural
    Networks" (NIPS 2016, arXiv:1701.04128), section 3: the gradient of one output with respect to
    the pixels; most of it is near the center, in a field much smaller than the theoretical one.
    (Zhou et al., ICLR 2015, which the PSPNet paper cites, occlude pixels instead.) The output is
    the logit of the predicted class, before upsampling. For each image, the absolute gradient is
    summed over the bands and divided by its total, so that all images count equally.

    Works on TensorFlow, JAX and PyTorch. The backward pass keeps the activations of all layers: 1
    to 3 GB for a ResNet-101 at 473x473.

    Args:
        model: see `keras_psp.evaluate`; its weights may be random.
        images: (n, height, width, channels), or an iterable of images of one size, e.g. RGB 0 to
            255. None for four images of uniform noise: 0 to 255 for three bands, otherwise within
            two standard deviations of the mean that the network expects of each band.
        pixel: (row, column) of the prediction; None for the center. The nearest feature is
            used, at most half a stride away; `ReceptiveField.center` is its position.
        pyramid: False stops the gradient at the pyramid, so that it only flows through the
            features themselves, as in the dilated FCN; the prediction stays the same.
        image_size: (height, width) of the noise.
        seed: seed of the noise.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: if an argument is invalid, images differ in size, or the gradient is zero.

    Example:
        field = keras_psp.evaluation.receptive_field("runs/mine", images)
        print(field.radius(), field.theoretical_size)
    """
    network = open_model(chosen_model(model))
    total: Any = 0.0
    count = None if not hasattr(images, "__len__") else len(images)
    stream = _noise(network, image_size, seed) if images is None else iter(images)
    if images is None:
        count = _NOISE_IMAGES
    shape: tuple[int, ...] | None = None
    center = (0.0, 0.0)
    for number, image in enumerate(with_bar(stream, "Gradients", count, shown=progress), 1):
        image = np.asarray(image, np.float32)
        check_images(network, image[None])
        if shape is None:
            shape = image.shape
            cell, center = _cell(network, image.shape[:2], pixel)
            gradient_of = _gradient(_score(network, cell, pyramid))
        if image.shape != shape:
            raise ValueError(
                f"image {number} is {image.shape[1]}x{image.shape[0]} but the first one "
                f"{shape[1]}x{shape[0]}; give images of one size."
            )
        gradient = np.abs(gradient_of(image[None])[0]).sum(axis=-1)
        gradient = gradient.astype(np.float64)
        if not gradient.sum() > 0 or not np.isfinite(gradient.sum()):
            raise ValueError(
                f"the gradient of image {number} is zero or not finite; check the weights, or "
                "choose another image."
            )
        total = total + gradient / gradient.sum()
    if shape is None:
        raise ValueError("images is empty; give at least one.")
    return ReceptiveField(total / total.sum(), center, theoretical_size(network, pyramid=pyramid))


def _noise(model: PSPNet, size: tuple[int, int], seed: int) -> Iterator[np.ndarray]:
    size = checked_pair(
        "image_size", size, size, int, lambda *sides: min(sides) > 0, "two positive integers"
    )
    rng, shape = np.random.default_rng(seed), (*size, model.input_channels)
    for _ in range(_NOISE_IMAGES):
        noise = rng.uniform(0, 255, shape)
        if model.input_channels != 3:
            mean, std = image_statistics(model)
            noise = mean + (noise / 64 - 2) * std
        yield noise.astype(np.float32)


def _cell(model, size, pixel):
    """(row, column) of the feature nearest to a pixel, and its position in pixels."""
    image = keras.KerasTensor((1, *size, model.input_channels))
    features = model.backbone.compute_output_spec(image)[1].shape[1:3]
    pixel = tuple(length // 2 for length in size) if pixel is None else pixel
    if len(pixel) != 2 or not all(0 <= p < n for p, n in zip(pixel, size, strict=True)):
        raise ValueError(
            f"pixel={pixel!r} isn't in images of {size[1]}x{size[0]}; give (row, column)."
        )
    cell, center = [], []
    for place, length, count in zip(pixel, size, features, strict=True):
        if model.align_corners:
            step = (length - 1) / max(count - 1, 1)
            cell.append(min(round(place / step), count - 1) if step else 0)
            center.append(cell[-1] * step)
        else:
            step = length / count
            cell.append(int(place / step))
            center.append((cell[-1] + 0.5) * step - 0.5)
    return tuple(cell), (center[0], center[1])


def _score(model: PSPNet, cell: tuple[int, ...], pyramid: bool) -> Callable[[Any], Any]:
    """A function from an image, (1, height, width, channels), to its predicted class' logit."""

    def score(images):
        x = model.get_layer("normalization")(images)
        _, features = model.backbone(x, training=False)
        module = model.get_layer("pyramid_pooling")
        levels = module.levels(features if pyramid else ops.stop_gradient(features))
        logits = model.get_layer("classifier")(module.fused(features, levels))
        return ops.max(logits[0, cell[0], cell[1]])

    return score


def _gradient(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The gradient of a scalar function of an array, on the backend in use."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        compiled = jax.jit(jax.grad(function))
        return lambda x: np.asarray(compiled(x))

    def of_tensorflow(x):
        import tensorflow as tf

        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        return np.asarray(tape.gradient(value, tensor))

    def of_torch(x):
        import torch

        tensor = ops.convert_to_tensor(x).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(function(tensor), tensor)
        return gradient.cpu().numpy()

    return of_tensorflow if backend == "tensorflow" else of_torch


def theoretical_size(model: PSPNet, *, pyramid: bool = True) -> int | None:
    """Side of the square of pixels that one prediction can depend on, before upsampling.

    Each convolution or pooling of k pixels with dilation d adds (k - 1) d s, where s is the product
    of the strides before it. The stem and the residual blocks (or all layers of another backbone),
    the fusion convolution and the classifier are counted.

    Args:
        model: the network.
        pyramid: whether to count the pyramid. It is assumed to see the whole image, as it does
            with a level of one or two bins; a level with more bins only sees part of it.

    Returns:
        Side in pixels, or None for the whole image: with a pyramid, or if the backbone has global
        pooling (squeeze and excitation).
    """
    if pyramid and model.bin_sizes:
        return None
    backbone = model.backbone
    if isinstance(backbone, DilatedResNet):
        size, step = _after([conv.conv for conv in backbone.stem], (1.0, 1))
        size, step = size + 2 * step, 2 * step  # 3x3 max pooling
        for block in (block for blocks in backbone.stages for block in blocks):
            size, step = _after([conv.conv for conv in block.convs], (size, step))
    else:
        size, step = _of_graph(backbone.features)
    for layer in ("pyramid_pooling", "classifier"):
        kernel = getattr(model.get_layer(layer), "kernel_size", 1)
        size += (int(np.max(kernel)) - 1) * step
    return None if np.isinf(size) else int(size)


def _after(layers, before):
    """(size, step) of the receptive field after layers in sequence."""
    size, step = before
    for layer in layers:
        if isinstance(layer, keras.Sequential):
            size, step = _after(layer.layers, (size, step))
        elif isinstance(layer, _GLOBAL):
            size = np.inf
        elif isinstance(layer, WINDOWS):
            window = getattr(layer, "kernel_size", None) or layer.pool_size
            # A `SymmetricConv2D` with stride and dilation convolves every nth pixel.
            every = getattr(layer, "subsampling", 1)
            dilation = every * max(getattr(layer, "dilation_rate", (1,)))
            size += (max(window) - 1) * dilation * step
            step *= every * max(layer.strides)
    return size, step


def _of_graph(model):
    """(size, step) at the last output of a functional model, the largest over all paths."""
    state: dict[int, tuple[float, int]] = {}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            before = (1.0, 1)
            if not node.is_input:
                sources = [state[id(tensor)] for tensor in node.arguments.keras_tensors]
                before = max(size for size, _ in sources), max(step for _, step in sources)
            after = _after([node.operation], before)
            state.update((id(tensor), after) for tensor in node.outputs)
    return state[id(model.outputs[-1])]


def receptive_field_diagram(
    parts: Sequence[tuple[str, ReceptiveField]], *, path: str | os.PathLike, columns: int = 4
) -> None:
    """Draws receptive fields with the circle of 95 % of the gradient and the theoretical square.

    Shades follow the square root of the gradient, so that its tail is visible.

    Args:
        parts: title and field of each panel.
        path: file to write; its suffix selects the format. An existing file is replaced atomically.
        columns: panels per row.

    Raises:
        ValueError: if there are no parts.
    """
    if not parts:
        raise ValueError("parts is empty; give at least one receptive field.")
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle

    columns = min(columns, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(3 * columns, 3.4 * rows), layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(parts) :]:
        axes.set_visible(False)
    for axes, (title, field) in zip(panels.flat, parts, strict=False):
        shades = np.sqrt(field.gradient / field.gradient.max())
        axes.imshow(shades, cmap="magma", vmin=0, vmax=1)
        row, column = field.center
        radius, size = field.radius(), field.theoretical_size
        axes.add_patch(Circle((column, row), radius, fill=False, color="tab:cyan"))
        if size is not None:
            corner = column - size / 2, row - size / 2
            axes.add_patch(Rectangle(corner, size, size, fill=False, color="white", ls="--"))
        height, width = field.gradient.shape
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
        axes.set_xticks([])
        axes.set_yticks([])
        whole = "the image" if size is None else f"{size} px"
        axes.set_title(f"{title}\n95 %: {radius:.0f} px, theory: {whole}", fontsize=9)
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=110)
