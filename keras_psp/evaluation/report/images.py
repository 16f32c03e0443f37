"""Images of the report: each one with its labels, its prediction and its mistakes."""

import base64
import io
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.evaluation.errors import GROUPS, NO_ERROR, ErrorGroups
from keras_psp.palette import VOID_COLOR
from keras_psp.visual.legend import legend_entries

GROUP_STYLES = {
    "mismatched": ("Mismatched relationship", (224, 49, 49)),
    "confused": ("Confusion categories", (240, 140, 0)),
    "missed": ("Inconspicuous: small things missed", (156, 54, 181)),
    "broken": ("Inconspicuous: large things broken up", (25, 113, 194)),
    "border": ("Borders", (12, 166, 120)),
    "other": ("Other", (164, 113, 72)),
}
"""Group to heading and RGB color, in the order of the page; report.html explains each group."""

_LONGEST = 480  # pixels of an embedded image's longer side
_WRONG = (224, 49, 49)  # color of wrong pixels without error groups


@dataclass(frozen=True)
class Example:
    """An image that a report may show.

    Attributes:
        name: name of the image.
        image: (height, width, channels), e.g. RGB 0 to 255; see `keras_psp.visual.bands.viewable`.
        truth: (height, width) integers, class indices or the ignored class.
        prediction: (height, width) integers, class indices.
        mean_iou: mean IoU of this image alone; `report_page` computes it if it is None.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    mean_iou: float | None = None


def css_color(rgb: Iterable[int]) -> str:
    """An RGB color in CSS."""
    return "#" + bytes(int(value) for value in rgb).hex()


def data_uri(image: Image.Image, form: str, **options: Any) -> str:
    """An image as a data URI; the options are those of `Image.save`."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"


def mask_png(mask: np.ndarray, palette: np.ndarray, transparent: int | None = None) -> str:
    """A mask as a PNG data URI with exactly the colors of its palette, (n, 3) uint8.

    Pixels of the index `transparent` are transparent.
    """
    values, index = np.unique(mask, return_inverse=True)
    if len(values) > 256:  # the most that an indexed PNG can have
        return data_uri(Image.fromarray(palette[mask]), "png", optimize=True)
    image = Image.fromarray(index.reshape(mask.shape).astype(np.uint8), "P")
    image.putpalette(palette[values].tobytes())
    options = {"optimize": True, "bits": max(1, (len(values) - 1).bit_length())}
    if transparent is not None and transparent in values:
        options["transparency"] = int(np.searchsorted(values, transparent))
    return data_uri(image, "png", **options)


class Panels:
    """Four panels per example: image, truth, prediction and mistakes.

    Mistakes are colored by error group; without `groups`, wrong pixels have one color. Each image
    is embedded once, as the background of its panels: `backgrounds` maps a CSS class to its URI.
    """

    def __init__(
        self,
        names: Sequence[str],
        palette: np.ndarray,
        ignore_class: int | None,
        groups: ErrorGroups | None,
    ):
        self.names, self.palette, self.ignore_class = names, palette, ignore_class
        self.groups = groups
        self.backgrounds: dict[str, str] = {}
        self._css_classes: dict[int, str] = {}
        self._occurring: set[int] = set()
        self._colors = np.concatenate([palette, [VOID_COLOR]]).astype(np.uint8)

    def worst_and_best(
        self, examples: Sequence[Example], worst: int, best: int
    ) -> list[dict[str, Any]]:
        """Headings and panels of the labeled images with the lowest and the highest mean IoU."""
        labeled = [e for e in examples if e.mean_iou is not None and np.isfinite(e.mean_iou)]
        order = sorted(labeled, key=operator.attrgetter("mean_iou"))
        chosen = (("Worst", order[:worst]), ("Best", order[worst:][::-1][:best]))
        return [
            {"heading": heading, "examples": [self.example(example) for example in part]}
            for heading, part in chosen
            if part
        ]

    def example(self, example: Example, group: str | None = None) -> dict[str, Any]:
        """The panels of one example; the mistakes are those of one group, or all."""
        mistakes, colors = self._mistakes(example, group)
        masks: dict[str, str | None] = {
            "image": None,
            "truth": mask_png(_reduced(self._classes(example.truth)), self._colors),
            "prediction": mask_png(_reduced(self._classes(example.prediction)), self._colors),
            "mistakes": mask_png(_reduced(mistakes), colors, transparent=NO_ERROR),
        }
        return self._panels(example, masks)

    def tinted(self, example: Example, masks: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """One panel of an example, which shows one of several named class maps over the image."""
        pictures = {name: _reduced(self._classes(mask)) for name, mask in masks.items()}
        return self._panels(
            example, {name: mask_png(mask, self._colors) for name, mask in pictures.items()}
        )

    def _panels(self, example, masks):
        height, width = example.image.shape[:2]
        return {
            "name": example.name,
            "mean_iou": example.mean_iou,
            "background": self._background(example),
            "width": width,
            "height": height,
            "masks": masks,
        }

    def legend(self) -> dict[str, list[tuple[str, str]]]:
        """Names and colors: the classes in the panels made so far, and the kinds of mistakes."""
        classes = legend_entries(self._occurring, self.names, self.palette, -1)
        mistakes = GROUP_STYLES.values() if self.groups else [("wrong pixels", _WRONG)]
        return {
            lead: [(name, css_color(rgb)) for name, rgb in entries]
            for lead, entries in (("Classes:", classes), ("Mistakes:", mistakes))
        }

    def _background(self, example):
        """The CSS class with the image as its background."""
        css_class = self._css_classes.setdefault(id(example), f"p{len(self._css_classes)}")
        if css_class not in self.backgrounds:
            image = Image.fromarray(example.image)
            image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
            self.backgrounds[css_class] = data_uri(image, "jpeg", quality=82)
        return css_class

    def _classes(self, mask):
        void = (mask < 0) | (mask >= len(self.palette))
        if self.ignore_class is not None:
            void |= mask == self.ignore_class
        self._occurring.update(np.unique(mask[~void]).tolist(), {-1} if void.any() else ())
        return np.where(void, len(self.palette), mask.astype(np.int32))

    def _mistakes(self, example, group):
        """Wrong pixels by group, `NO_ERROR` elsewhere, and the groups' colors."""
        colors = np.zeros((256, 3), np.uint8)
        if self.groups is None:
            wrong = example.truth != example.prediction
            if self.ignore_class is not None:
                wrong &= example.truth != self.ignore_class
            colors[0] = _WRONG
            return np.where(wrong, 0, NO_ERROR).astype(np.uint8), colors
        mistakes = self.groups.map(example.truth, example.prediction)
        colors[: len(GROUPS)] = [GROUP_STYLES[name][1] for name in GROUPS]
        if group is not None:
            mistakes = np.where(mistakes == GROUPS.index(group), mistakes, NO_ERROR)
        return mistakes.astype(np.uint8), colors


def _reduced(mask):
    """The mask with at most _LONGEST pixels on its longer side, by nearest neighbor."""
    image = Image.fromarray(mask)
    factor = _LONGEST / max(image.size)
    if factor >= 1:
        return mask
    size = [max(1, round(side * factor)) for side in image.size]
    return np.asarray(image.resize(size, Image.Resampling.NEAREST))
