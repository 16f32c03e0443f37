"""Images labeled by shapes: what the readers of all tools share."""

import dataclasses
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.data.division import SPLITS, MayBeFlat, divided
from keras_psp.data.images import UPRIGHT, orientation, sizes
from keras_psp.data.label_files import check_names, listed_names, opened
from keras_psp.data.labels.drawing import Size
from keras_psp.data.pairs import ImagePairs
from keras_psp.files import local_path
from keras_psp.palette import default_palette

BACKGROUND = ("background", "_background_", "__background__")
IGNORED = "__ignore__"  # labelme's own name for pixels that don't count
UNLABELED = ("background", "ignore")


@dataclasses.dataclass(frozen=True)
class Shape:
    """A labeled region.

    Attributes:
        label: name of its class.
        pixels: returns its pixels as (height, width) bool, given the size of the annotated image;
            the message of a ValueError completes a sentence that begins with the shape.
        name: what messages call it.
    """

    label: str
    pixels: Callable[[Size], np.ndarray]
    name: str = "a shape"


@dataclasses.dataclass(frozen=True)
class Annotation:
    """What a tool's file says about one image.

    Attributes:
        image: the image file.
        origin: what errors call the annotation: the file, and "#NAME" if it is for many images.
        size: (height, width) for which it was drawn; None if that isn't recorded.
        shapes: returns the shapes, from the lowest to the topmost.
        file: the file that contains it, if that isn't `origin`.
        left_out: number of objects without area, by type.
    """

    image: Path
    origin: Path
    size: Size | None
    shapes: Callable[[], Sequence[Shape]]
    file: Path | None = None
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


class AnnotatedImages(MayBeFlat, ImagePairs):
    """Images whose labels are shapes, which are drawn when a label is read.

    Base class of the sources for labelme, COCO instances, CVAT and Supervisely. Later or higher
    shapes cover earlier or lower ones, as in the tool. Shapes are drawn at the size that the tool
    recorded; if that is the image's size before its EXIF orientation, the mask is then turned
    like the image.

    Class names come from `class_names`, else from `root/classes.txt` (one name per line), else
    from the tool's file. Pixels without a shape are the class "background", which is class 0
    unless the names contain it.

    Args:
        root: the folder of the export, or its annotation file.
        unlabeled: what pixels without a shape are: "background", or "ignore" if they don't count.
        ignore_class: value of pixels that don't count, 0 to 255.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255.
    """

    tool = ""
    """The program whose files are read, as messages call it."""
    names_origin = "the labels"
    """What messages call the list of the names."""

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        unlabeled: str = "background",
        ignore_class: int = 255,
        class_names: Sequence[str] | None = None,
        palette: Sequence | np.ndarray | None = None,
    ):
        if unlabeled not in UNLABELED:
            raise ValueError(f"unlabeled is {unlabeled!r}; choose one of {', '.join(UNLABELED)}.")
        path = local_path("root", root)
        if not path.exists():
            raise ValueError(f"{path}: no such folder.")
        super().__init__(
            {}, ignore_class=ignore_class, palette=palette, title=f"{self.tool} in {path}"
        )
        self.root = path if path.is_dir() else path.parent
        self._colors: dict[str, tuple[int, int, int]] = {}
        found = self._annotations_in(path)
        if not found:
            raise ValueError(f"{path}: has no images; export the labels again, with their images.")
        self._of = {annotation.origin: annotation for _, annotation in found}
        self._check_unique([annotation for _, annotation in found])
        self.read_label = self._read_label
        self._set_names(class_names, unlabeled)
        parts = defaultdict(list)
        for split, annotation in found:
            parts[split].append((annotation.image, annotation.origin))
        self._flat = None in parts
        self._outside = parts[None] if self._flat and len(parts) > 1 else []
        pairs = divided([pair for part in parts.values() for pair in part]) if self._flat else parts
        self._pairs = {split: pairs[split] for split in ("all", *SPLITS) if split in pairs}
        self.splits = tuple(self._pairs)
        self._print_notes(unlabeled)

    def _annotations_in(self, path: Path) -> Sequence[tuple[str | None, Annotation]]:
        """Returns the annotations, each with its split; if one has none, there are no splits."""
        raise NotImplementedError

    def _tool_names(self) -> Sequence[str]:
        """Returns the names of the classes in the tool's order."""
        raise NotImplementedError

    def label_file(self, label: Path) -> Path:
        """Returns the file that contains an example's label, given the label's path in `paths`."""
        return self._of[label].file or label

    def _check_unique(self, annotations):
        of: dict[Path, Path] = {}
        for item in annotations:
            if of.setdefault(item.image, item.origin) != item.origin:
                raise ValueError(
                    f"{item.origin}: {item.image} is annotated in {of[item.image]} as well; "
                    "remove one of the two."
                )
        if len(annotations) != len(self._of):
            raise ValueError(f"{self.title}: an image is listed twice; export it again.")

    def _set_names(self, class_names, unlabeled):
        listed = listed_names(class_names, self.root / "classes.txt")
        origin, names = listed or (self.names_origin, list(dict.fromkeys(self._tool_names())))
        names = [name for name in names if name != IGNORED]
        background = [name for name in names if name.lower() in BACKGROUND]
        if unlabeled == "background" and not background:
            names.insert(0, "background")
            background = names[:1]
        check_names(names, origin)
        self._names, self._names_from = tuple(names), origin
        self._index = {name: index for index, name in enumerate(names)}
        self._index[IGNORED] = self.ignore_class
        self._rest = self.ignore_class if unlabeled == "ignore" else self._index[background[0]]
        if self._palette is None and self._colors:
            palette = default_palette(len(names))
            for name, color in self._colors.items():
                if name in self._index and name != IGNORED:
                    palette[self._index[name]] = color
            self._palette = palette

    def _print_notes(self, unlabeled):
        for note in self._notes(unlabeled):
            print(f"{self.title}: {note}.", file=sys.stderr)

    def _notes(self, unlabeled):
        """Yields what the user should know about the labels, as sentences."""
        if unlabeled == "background":
            yield (
                f"pixels without a label are class {self._rest}, {self._names[self._rest]}; "
                "unlabeled='ignore' (--unlabeled ignore) ignores them"
            )
        if self._outside:
            yield (
                f"{len(self._outside)} image(s) are in no split ({self._outside[0][0].name}), so "
                "that the names divide all images into train, val and test, not the folders"
            )
        kinds: Counter[str] = Counter()
        for annotation in self._of.values():
            kinds.update(annotation.left_out)
        if kinds:
            listed = ", ".join(f"{count} of type {kind}" for kind, count in kinds.items())
            yield f"left out, since they have no area: {listed}"

    def _read_label(self, path):
        """Draws the label of an example as (height, width) uint8."""
        annotation = self._of[path]
        with opened(annotation.image) as image:
            (stored, upright), number = sizes(image), orientation(image)
        size = annotation.size or upright
        if size not in (stored, upright):
            raise ValueError(
                f"{path}: was drawn for an image of {_times(size)}, but {annotation.image} is "
                f"{_times(upright)}; use the image that was labeled, or label this one."
            )
        mask = np.full(size, self._rest, np.uint8)
        for shape in annotation.shapes():
            if shape.label not in self._index:
                raise ValueError(
                    f"{path}: {shape.name} is labeled {shape.label!r}, which isn't one of the "
                    f"classes in {self._names_from} ({', '.join(self._names[:10])}); correct the "
                    "label, or add the class there."
                )
            try:
                mask[shape.pixels(size)] = self._index[shape.label]
            except ValueError as error:
                raise ValueError(
                    f"{path}: {shape.name} ({shape.label}) {error}; draw it again, or remove it."
                ) from None
        if size == upright:
            return mask
        return np.array(Image.fromarray(mask).transpose(UPRIGHT[number]))


def _times(size):
    return f"{size[1]}x{size[0]}"


def recorded_size(height: Any, width: Any, origin: Path | str) -> Size | None:
    """Returns (height, width) as recorded in an annotation; None if both are missing."""
    if height is None and width is None:
        return None
    # Some programs write numbers like 640.0.
    sides = [int(n) if isinstance(n, float) and n.is_integer() else n for n in (height, width)]
    if not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(
            f"{origin}: records a size of {width!r} x {height!r}; export it again, or remove both."
        )
    return sides[0], sides[1]
