"""Supervisely: a project with meta.json, and a .json for each image of its data sets."""

import functools
import glob
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_psp.data.division import split_named
from keras_psp.data.labels.annotations import AnnotatedImages, Annotation, Shape, recorded_size
from keras_psp.data.labels.drawing import (
    Size,
    checked_points,
    filled_polygon,
    mask_from_base64,
    placed,
)
from keras_psp.data.labels.finding import ImageFinder, files_below, read_json
from keras_psp.progress import in_threads

_WITHOUT_AREA = ("point", "line", "graph", "cuboid", "cuboid_2d", "polyline_3d", "point_3d")


class Supervisely(AnnotatedImages):
    """A project of Supervisely: meta.json, and folders with img/ and ann/.

    Objects may be bitmaps, polygons (which may have holes or several parts) and rectangles; later
    ones in the file cover earlier ones. As in Supervisely's own library, coordinates are rounded
    down and polygons include their outline. Data sets called train, val and test are the splits
    if there are no others.

    Class names and colors are those in meta.json, in its order.
    """

    tool = "Supervisely"
    names_origin = "meta.json"

    def _annotations_in(self, path):
        meta = read_json(self.root / "meta.json") if path.is_dir() else None
        if not is_supervisely(meta):
            raise ValueError(
                f"{path}: has no meta.json with `classes`; choose the folder of the project."
            )
        self._classes = meta["classes"]
        self._titles = {item.get("id"): item.get("title") for item in self._classes}
        for item in self._classes:
            color = str(item.get("color", "")).removeprefix("#")
            if len(color) == 6 and set(color.lower()) <= set("0123456789abcdef"):
                self._colors[item.get("title")] = tuple(bytes.fromhex(color))
        self._finder = ImageFinder(self.root)
        files = [file for file in files_below(self.root, (".json",)) if file.parent.name == "ann"]
        if not files:
            raise ValueError(
                f"{self.root}: has no annotations DATASET/ann/*.json; export the project again."
            )
        annotations = in_threads(self._read_file, files, "Reading labels")
        splits = [split_named(file.parent.parent.name) for file in files]
        return list(zip(splits, annotations, strict=True))

    def _tool_names(self):
        return [str(item.get("title", "")).strip() for item in self._classes]

    def _read_file(self, path):
        content = read_json(path)
        size = content.get("size") if isinstance(content, dict) else None
        if not isinstance(size, dict) or not isinstance(content.get("objects"), list):
            raise ValueError(
                f"{path}: isn't an annotation of Supervisely with `size` and `objects`; export "
                "the project again."
            )
        size = recorded_size(size.get("height"), size.get("width"), path)
        # IMAGE.jpg.json; older exports leave out the suffix of the image.
        folder, stem = path.parent.parent / "img", path.name.removesuffix(".json")
        any_suffix = f"{glob.escape(stem)}.*"
        names = [stem] if (folder / stem).is_file() else sorted(folder.glob(any_suffix))
        name = names[0] if len(names) == 1 else stem
        image = self._finder.find(str(name), folder, origin=str(path))
        kinds = Counter(_kind(item) for item in content["objects"])
        left_out = {kind: kinds[kind] for kind in _WITHOUT_AREA if kinds[kind]}
        shapes = functools.partial(self._shapes, path)
        return Annotation(image, path, size, shapes, left_out=left_out)

    def _shapes(self, path):
        shapes = []
        for number, item in enumerate(read_json(path)["objects"], 1):
            kind = _kind(item)
            if kind in _WITHOUT_AREA:
                continue
            label = item.get("classTitle") or self._titles.get(item.get("classId")) or ""
            name = f"object {number}, a {kind},"
            if kind not in _DRAW:
                raise ValueError(
                    f"{path}: {name} ({label}) has a type that can't be read; supported are "
                    f"{', '.join(_DRAW)}. Convert it to a bitmap in Supervisely."
                )
            pixels = functools.partial(_pixels, _DRAW[kind], item)
            shapes.append(Shape(str(label).strip(), pixels, name))
        return shapes


def is_supervisely(meta: Any) -> bool:
    """Whether the content of meta.json is that of a project of Supervisely."""
    classes = meta.get("classes") if isinstance(meta, dict) else None
    return isinstance(classes, list) and all(isinstance(item, dict) for item in classes)


def _kind(item):
    kind = item.get("geometryType") if isinstance(item, dict) else None
    if kind is None and isinstance(item, dict):  # older exports
        kind = "bitmap" if item.get("bitmap") else "polygon"
    return str(kind)


def _pixels(draw: Callable, item: dict, size: Size) -> np.ndarray:
    try:
        return draw(item, size)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("lacks its points or its bitmap") from None


def _bitmap(item, size):
    left, top = np.floor(checked_points(item["bitmap"]["origin"], 1))[0].astype(int).tolist()
    return placed(mask_from_base64(item["bitmap"]["data"]), left, top, size)


def _polygon(item, size):
    return _rings(item["points"], size)


def _rings(rings, size):
    exterior = np.floor(checked_points(rings["exterior"], 3))
    mask = filled_polygon(exterior, size)
    for hole in rings.get("interior") or []:
        mask &= ~filled_polygon(np.floor(checked_points(hole, 3)), size)
    return mask


def _multipolygon(item, size):
    mask = np.zeros(size, bool)
    for part in item["parts"]:
        mask |= _rings(part, size)
    return mask


def _rectangle(item, size):
    corners = np.floor(checked_points(item["points"]["exterior"], 2)).astype(int)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    mask = np.zeros(size, bool)
    mask[max(0, top) : max(0, bottom + 1), max(0, left) : max(0, right + 1)] = True
    return mask


_DRAW: dict[str, Callable] = {
    "bitmap": _bitmap,
    "polygon": _polygon,
    "multipolygon": _multipolygon,
    "rectangle": _rectangle,
}
