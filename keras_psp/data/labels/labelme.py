"""labelme: a .json file next to each image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.images import IMAGE_SUFFIXES
from keras_psp.data.label_files import read_text
from keras_psp.data.labels.annotations import (
    IGNORED,
    AnnotatedImages,
    Annotation,
    Shape,
    recorded_size,
)
from keras_psp.data.labels.drawing import (
    Size,
    checked_points,
    mask_from_base64,
    pillow_shape,
    placed,
)
from keras_psp.data.labels.finding import ImageFinder, files_below, read_json, split_of
from keras_psp.progress import in_threads

# labelme/utils/shape.py: the width of lines and the radius of points.
_LINE_WIDTH, _POINT_RADIUS = 10, 5


class Labelme(AnnotatedImages):
    """Images labeled in labelme, as `labelme_export_json` and its examples draw them.

    Shapes may be polygons, rectangles (rotated ones, too), circles, masks, lines and points. They
    are drawn with Pillow; later ones in the file cover earlier ones. As in labelme, lines are 10
    pixels wide and points have a radius of 5. Images without a .json are left out.

    Class names in labels.txt, labelme's own list, come before those in the shapes, which are
    sorted. The label `__ignore__` becomes `ignore_class`, `_background_` is the background.
    """

    tool = "labelme"

    def _annotations_in(self, path):
        self._finder = ImageFinder(self.root)
        files = list(files_below(path, (".json",)))
        found = [item for item in in_threads(self._read_file, files, "Reading labels") if item]
        if not found:
            raise ValueError(
                f"{path}: has no .json of labelme; choose the folder with the files that it saved."
            )
        self._used = sorted({label for _, labels in found for label in labels} - {IGNORED})
        return [(split_of(item.origin, self.root), item) for item, _ in found]

    def _tool_names(self):
        listed = self.root / "labels.txt"
        names = read_text(listed).splitlines() if listed.is_file() else []
        return [*(name.strip() for name in names if name.strip()), *self._used]

    def _notes(self, unlabeled):
        yield from super()._notes(unlabeled)
        labeled = {annotation.image for annotation in self._of.values()}
        images = {path for folder in {p.parent for p in labeled} for path in _images_in(folder)}
        if rest := sorted(images - labeled):
            yield f"{len(rest)} image(s) without a .json are left out ({rest[0].name})"

    def _read_file(self, path):
        """Returns the annotation in a file and its labels; None for another kind of .json."""
        content = read_json(path)
        if not is_labelme(content):
            return None
        labels = [shape.label for shape in _shapes(content, path)]
        size = recorded_size(content.get("imageHeight"), content.get("imageWidth"), path)
        name, origin = content["imagePath"], str(path)
        image = self._finder.find(name, path.parent, origin=origin, annotation=path)
        annotation = Annotation(image, path, size, lambda: _shapes(read_json(path), path))
        return annotation, labels


def is_labelme(content: Any) -> bool:
    """Whether the content of a .json is that of labelme."""
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()


def _images_in(folder):
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]


def _shapes(content: dict, path: Path) -> list[Shape]:
    shapes = content["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ValueError(f"{path}: `shapes` isn't a list of shapes; save it again in labelme.")
    result = []
    for number, shape in enumerate(shapes, 1):
        label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
        name = f"shape {number}, a {kind}"
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"{path}: {name}, has no label; label it, or remove it.")
        if kind not in _DRAW:
            raise ValueError(
                f"{path}: {name} ({label}), has an unknown type; known ones are "
                f"{', '.join(_DRAW)}. Draw it as one of these."
            )
        result.append(Shape(label.strip(), _pixels(kind, shape), f"{name},"))
    return result


def _pixels(kind: str, shape: dict) -> Callable[[Size], np.ndarray]:
    count, draw = _DRAW[kind]

    def pixels(size):
        points = checked_points(shape.get("points"), abs(count))
        if count > 0 and len(points) != count:
            raise ValueError(f"has {len(points)} points instead of {count}")
        return draw(points, shape, size)

    return pixels


def _rectangle(points, shape, size):
    return pillow_shape("rectangle", np.stack([points.min(0), points.max(0)]), size)


def _around(center, radius, size):
    return pillow_shape("ellipse", np.stack([center - radius, center + radius]), size)


def _mask(points, shape, size):
    # labelme's corners are inclusive.
    (left, top), (right, bottom) = points.astype(int)
    part = mask_from_base64(shape.get("mask"))
    if part.shape != (bottom - top + 1, right - left + 1):
        raise ValueError(
            f"has a bitmap of {part.shape[1]}x{part.shape[0]} in a box of "
            f"{right - left + 1}x{bottom - top + 1} pixels"
        )
    return placed(part, left, top, size)


# The number of points of each type (negative: at least that many), and how it is drawn; the types
# are those of shape_to_mask in labelme/utils/shape.py.
_DRAW: dict[str, tuple[int, Callable]] = {
    "polygon": (-3, lambda points, shape, size: pillow_shape("polygon", points, size)),
    "rectangle": (2, _rectangle),
    "oriented_rectangle": (4, lambda points, shape, size: pillow_shape("polygon", points, size)),
    "circle": (
        2,
        lambda points, shape, size: _around(points[0], np.hypot(*(points[1] - points[0])), size),
    ),
    "mask": (2, _mask),
    "line": (
        2,
        lambda points, shape, size: pillow_shape("line", points, size, width=_LINE_WIDTH),
    ),
    "linestrip": (
        -2,
        lambda points, shape, size: pillow_shape("line", points, size, width=_LINE_WIDTH),
    ),
    "point": (1, lambda points, shape, size: _around(points[0], _POINT_RADIUS, size)),
}
