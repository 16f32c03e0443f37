"""References: what replaces the levels of the pyramid to classify pixels without them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Unpack

import numpy as np

from keras_psp.data.bands import read_any
from keras_psp.data.images import MAX_PIXELS
from keras_psp.models.parts import position_means
from keras_psp.models.pspnet import PSPNet
from keras_psp.prediction.inputs import Input, find_inputs
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.outcomes import refusal
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.segmenter import Segmenter


@dataclasses.dataclass(frozen=True, eq=False)
class LevelMeans:
    """The mean of each level of a network's pyramid over a set of images.

    Attributes:
        bin_sizes: bin sizes of the levels.
        values: for each level, (channels,), the mean over all positions of the upsampled level and
            over the images, which count equally.
        images: number of images.
    """

    bin_sizes: tuple[int, ...]
    values: tuple[np.ndarray, ...]
    images: int

    def __str__(self) -> str:
        return f"their mean over {self.images} images"


Reference = Literal["image"] | LevelMeans


def level_means(
    images: Any,
    model: Any = None,
    *,
    max_pixels: int = MAX_PIXELS,
    **protocol: Unpack[ProtocolFields],
) -> LevelMeans:
    """Computes what `explain(reference=...)` puts in place of the levels of the pyramid.

    Args:
        images: one or several images, e.g. a folder, see `keras_psp.predict`.
        model: see `keras_psp.predict`.
        max_pixels: larger images are refused.
        protocol: `base_size`, see `explain`.

    Raises:
        ValueError, OSError: if the model can't be opened, an image can't be read, there are no
            images, or the protocol has several views.

    Example:
        means = keras_psp.explanation.level_means("photos/", "runs/mine")
        keras_psp.explain("street.jpg", "runs/mine", reference=means)
    """
    chosen = Protocol(**protocol)
    chosen.check_single_view()
    segmenter = open_segmenter(model, chosen)
    mean = RunningMean(segmenter)
    for item in find_inputs(images):
        pixels = read_still(item, max_pixels, segmenter.model.input_channels)
        try:
            mean.add(pixels)
        except ValueError as error:
            raise refusal(item, error, segmenter.protocol.base_size) from None
    return mean.result()


def read_still(item: Input, max_pixels: int, channels: int) -> np.ndarray:
    """Reads an image with the channels of a network; raises ValueError for a video."""
    if item.is_video:
        raise ValueError(f"{item.origin}: is a video; save its frames as images.")
    return read_any(item.source, channels, max_pixels=max_pixels)


class RunningMean:
    """Collects the `LevelMeans` of images that are added one by one."""

    def __init__(self, segmenter: Segmenter):
        self._segmenter = segmenter
        self._sums: list[np.ndarray] = []
        self._images = 0

    def add(self, image: np.ndarray) -> None:
        """Adds an image, (height, width, channels), e.g. RGB 0 to 255."""
        model = self._segmenter.model
        term, levels = model.predict_terms(self._segmenter.single_view(image).pixels[None])
        means = position_means(
            [level[0] for level in levels], term.shape[1:3], align_corners=model.align_corners
        )
        self.add_means(means)

    def add_means(self, means: Sequence[np.ndarray]) -> None:
        """Adds the means of an image's levels, (channels,) each."""
        wide = [mean.astype(np.float64) for mean in means]
        self._sums = [a + b for a, b in zip(self._sums, wide, strict=True)] if self._sums else wide
        self._images += 1

    def result(self) -> LevelMeans:
        """Returns the means; raises ValueError if no image was added."""
        if not self._images:
            raise ValueError("images is empty; give at least one to average the levels over.")
        values = tuple((total / self._images).astype(np.float32) for total in self._sums)
        return LevelMeans(self._segmenter.model.bin_sizes, values, self._images)


def check_reference(reference: Any, model: PSPNet) -> None:
    """Raises ValueError unless a reference is "image" or means of a pyramid like the model's."""
    if isinstance(reference, str) and reference == "image":
        return
    if not isinstance(reference, LevelMeans):
        raise ValueError(
            f'reference is {reference!r}; it must be "image", or what '
            "keras_psp.explanation.level_means(images, model) returns."
        )
    pyramid = model.get_layer("pyramid_pooling")
    edges = pyramid.fusion.edges
    channels = np.diff(edges)[1:].tolist()
    given = [len(values) for values in reference.values]
    if reference.bin_sizes != model.bin_sizes or given != channels:
        raise ValueError(
            f"reference has levels of {reference.bin_sizes} bins with {given} channels, but the "
            f"network has {model.bin_sizes} with {channels}; compute it with the same network."
        )
