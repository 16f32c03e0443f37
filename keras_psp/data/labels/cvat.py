"""CVAT for images: one annotations.xml for many images."""

import functools
import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.division import split_named
from keras_psp.data.labels.annotations import AnnotatedImages, Annotation, Shape, recorded_size
from keras_psp.data.labels.drawing import (
    Size,
    checked_points,
    coco_masks,
    coco_polygons,
    ellipse,
    placed,
    runs,
)
from keras_psp.data.labels.finding import ImageFinder, files_below, split_of

# Shapes without area, which CVAT's export of segmentation masks leaves out too.
_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")


class Cvat(AnnotatedImages):
    """Images labeled in CVAT and exported as "CVAT for images 1.1".

    Shapes may be polygons, boxes (rotated ones, too), masks and ellipses. As in CVAT's export of
    segmentation masks, shapes with a higher `z_order` cover the others, later ones cover earlier
    ones of the same `z_order`, and polygons and boxes are drawn by pycocotools. All images in the
    file count, even those without a shape. A project's subsets Train, Validation and Test are the
    splits.

    Class names and colors are those of the task or project, in its order.
    """

    tool = "CVAT"
    names_origin = "the labels of the task"

    def _annotations_in(self, path):
        files = [file for file in files_below(path, (".xml",)) if is_cvat(file)]
        if not files:
            raise ValueError(
                f"{path}: has no .xml of CVAT; export the task as 'CVAT for images 1.1'."
            )
        coco_masks()  # raises now if pycocotools isn't installed
        self._finder = ImageFinder(self.root)
        self._listed: list[str] = []
        return [item for file in files for item in self._annotations_of(file)]

    def _tool_names(self):
        return self._listed

    def _annotations_of(self, file):
        for element in _elements(file):
            if element.tag == "label":
                self._add_label(element)
                continue
            if element.tag == "track":
                raise ValueError(
                    f"{file}: is 'CVAT for video'; export the task as 'CVAT for images 1.1'."
                )
            name, subset = element.get("name"), element.get("subset") or ""
            # Subsets of a project may have images of the same name.
            origin = Path(f"{file}#{subset}/{name}" if subset else f"{file}#{name}")
            near = (file.parent / "images" / subset, file.parent / "images", file.parent)
            path = self._finder.find(name, *near, origin=str(origin))
            sides = [_whole(element.get(side)) for side in ("height", "width")]
            size = recorded_size(*sides, origin)
            items = [(child.tag, dict(child.attrib)) for child in element]
            left_out = Counter(tag for tag, _ in items if tag in _WITHOUT_AREA)
            items = [item for item in items if item[0] not in (*_WITHOUT_AREA, "tag")]
            shapes = functools.partial(_shapes, items, origin)
            split = split_named(subset) or split_of(file, self.root)
            yield split, Annotation(path, origin, size, shapes, file, left_out)

    def _add_label(self, element):
        name = (element.findtext("name") or "").strip()
        kind = element.findtext("type")
        if not name or element.findtext("parent") or kind in (*_WITHOUT_AREA, "tag"):
            return  # such labels never have pixels
        self._listed.append(name)
        color = (element.findtext("color") or "").strip().removeprefix("#")
        if len(color) == 6 and set(color.lower()) <= set("0123456789abcdef"):
            self._colors[name] = tuple(bytes.fromhex(color))


def is_cvat(file: Path) -> bool:
    """Whether an .xml is CVAT's."""
    try:
        with open(file, "rb") as stream:
            beginning = stream.read(1000)
    except OSError:
        return False
    return b"<annotations" in beginning and b"<annotation>" not in beginning


def _elements(file: Path) -> Iterator[ElementTree.Element]:
    """Yields the labels, images and tracks, each complete and then cleared."""
    try:
        for _, element in ElementTree.iterparse(file):
            if element.tag in ("label", "image", "track"):
                yield element
                element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(f"{file}: isn't XML ({error}); export it again.") from None
    except OSError as error:
        raise ValueError(f"{file}: can't be read ({error.strerror}); check the disk.") from None


def _whole(text):
    return int(text) if text is not None and text.isdecimal() else text


def _shapes(items: list[tuple[str, Mapping[str, str]]], origin: Path) -> list[Shape]:
    shapes = []
    for number, (tag, values) in enumerate(items, 1):
        label = values.get("label", "").strip()
        name = f"shape {number}, a {tag},"
        if tag not in _DRAW:
            raise ValueError(
                f"{origin}: {name} ({label}) has an unknown type; known ones are "
                f"{', '.join(_DRAW)}. Draw it as one of these."
            )
        try:
            height = int(values.get("z_order", 0))
        except ValueError:
            raise ValueError(
                f"{origin}: {name} has z_order={values['z_order']!r}; export it again."
            ) from None
        shapes.append((height, Shape(label, functools.partial(_pixels, tag, values), name)))
    return [shape for _, shape in sorted(shapes, key=lambda item: item[0])]


def _pixels(tag: str, values: Mapping[str, str], size: Size) -> np.ndarray:
    try:
        return _DRAW[tag](values, size)
    except KeyError as error:
        raise ValueError(f"has no {error.args[0]}") from None


def _numbers(values, *names):
    try:
        numbers = [float(values[name]) for name in names]
    except ValueError:
        raise ValueError(f"has a {' or '.join(names)} that isn't a number") from None
    checked_points(numbers if len(numbers) % 2 == 0 else [*numbers, 0], 1)
    return numbers


def _polygon(values, size):
    points = [point.split(",") for point in values["points"].split(";")]
    return coco_polygons([checked_points(points, 3).ravel()], size)


def _box(values, size):
    x0, y0, x1, y1 = _numbers(values, "xtl", "ytl", "xbr", "ybr")
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    center = (corners[0] + corners[2]) / 2
    angle = math.radians(_angle(values))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    if angle:
        corners = center + (corners - center) @ turn
    return coco_polygons([corners.ravel()], size)


def _mask(values, size):
    left, top, width, height = (
        int(number) for number in _numbers(values, "left", "top", "width", "height")
    )
    if width < 1 or height < 1:
        raise ValueError("has no pixels")
    counts = [int(count) if count.strip().isdecimal() else -1 for count in values["rle"].split(",")]
    return placed(runs(counts, (height, width)), left, top, size)


def _ellipse(values, size):
    # CVAT rounds before it draws.
    numbers = [round(number) for number in _numbers(values, "cx", "cy", "rx", "ry")]
    return ellipse(numbers[:2], numbers[2:], _angle(values), size)


def _angle(values):
    return _numbers(values, "rotation")[0] if "rotation" in values else 0.0


_DRAW: dict[str, Callable[[Mapping[str, str], Any], np.ndarray]] = {
    "polygon": _polygon,
    "box": _box,
    "mask": _mask,
    "ellipse": _ellipse,
}
