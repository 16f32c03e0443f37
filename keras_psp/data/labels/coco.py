"""COCO instance annotations: one .json with polygons or run lengths for many images."""

import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_psp.data.division import split_named
from keras_psp.data.labels.annotations import (
    IGNORED,
    AnnotatedImages,
    Annotation,
    Shape,
    recorded_size,
)
from keras_psp.data.labels.drawing import Size, coco_masks, coco_polygons, coco_runs
from keras_psp.data.labels.finding import ImageFinder, files_below, read_json, split_of

_CROWD = ("class", "ignore")


class CocoInstances(AnnotatedImages):
    """Instance annotations in COCO's format, drawn by pycocotools.

    Objects may be polygons or run lengths, compressed or not. Later objects in the file cover
    earlier ones; the format has no other order. All images in the file count, even those without
    an object. The name of the file or its folder determines the split, e.g. instances_val2017.json
    or valid/_annotations.coco.json.

    Class names are those of the categories, in the order of the file.

    Args:
        root: the folder of the export, or its .json.
        crowd: what regions with `iscrowd`, which cover several objects, become: "class" for the
            class of these objects, or "ignore" if they don't count.
        options: see `AnnotatedImages`.
    """

    tool = "COCO instances"
    names_origin = "the categories"

    def __init__(self, root: Any, *, crowd: str = "class", **options: Any):
        if crowd not in _CROWD:
            raise ValueError(f"crowd is {crowd!r}; choose one of {', '.join(_CROWD)}.")
        self._crowd = crowd
        super().__init__(root, **options)

    def _annotations_in(self, path):
        files = dict(instance_files(path))
        if not files:
            raise ValueError(
                f"{path}: has no .json with COCO's images, annotations and categories; choose the "
                "folder of the export, or the file itself."
            )
        self._finder = ImageFinder(self.root if path.is_dir() else self._above(path))
        self._categories: list[str] = []
        found = []
        for file, content in files.items():
            split = split_of_file(file, self.root)
            found += [(split, item) for item in self._annotations_of(file, content, split)]
        return found

    def _above(self, path):
        """The folder with the images of a single file; it is often next to that of the file."""
        return path.parent.parent if path.parent.name == "annotations" else path.parent

    def _tool_names(self):
        return self._categories

    def _annotations_of(self, file, content, split):
        names = _categories(file, content)
        objects = defaultdict(list)
        for number, item in enumerate(content["annotations"], 1):
            category = item.get("category_id") if isinstance(item, dict) else None
            if not isinstance(category, int | str) or category not in names:
                raise ValueError(
                    f"{file}: annotation {_id(item, number)} has category {category!r}, which "
                    "isn't listed; export it again."
                )
            objects[_hashable(item.get("image_id"))].append(item)
        if any(isinstance(item.get("segmentation"), list) for item in content["annotations"]):
            coco_masks()  # raises now if pycocotools isn't installed
        used = {item["category_id"] for items in objects.values() for item in items}
        self._categories += _named(content["categories"], names, used)
        annotations, ids = [], set()
        for image in content["images"]:
            if not isinstance(image, dict) or "id" not in image:
                raise ValueError(f"{file}: an image has no id; export it again.")
            key, name = _hashable(image["id"]), image.get("file_name")
            origin = Path(f"{file}#{name}")
            if key in ids:
                raise ValueError(
                    f"{origin}: another image has the id {key!r}, too, so it isn't clear which one "
                    "the annotations are for; number the images again."
                )
            ids.add(key)
            near = (file.parent, file.parent / "images")
            path = self._finder.find(name, *near, origin=str(origin), split=split)
            size = recorded_size(image.get("height"), image.get("width"), origin)
            shapes = functools.partial(self._shapes, objects.pop(key, []), names)
            annotations.append(Annotation(path, origin, size, shapes, file))
        if objects:
            raise ValueError(
                f"{file}: annotation {_id(next(iter(objects.values()))[0], 1)} is for image "
                f"{next(iter(objects))!r}, which isn't listed; export it again."
            )
        return annotations

    def _shapes(self, objects, names):
        shapes = []
        for number, item in enumerate(objects, 1):
            crowd = item.get("iscrowd") in (1, True) and self._crowd == "ignore"
            label = IGNORED if crowd else names[item["category_id"]]
            pixels = functools.partial(_pixels, item.get("segmentation"))
            shapes.append(Shape(label, pixels, f"annotation {_id(item, number)}"))
        return shapes


def instance_files(path: Path) -> Iterator[tuple[Path, dict]]:
    """Yields COCO's instance files and their contents, in a folder or as a single file.

    If there are files called instances_*, as in COCO itself, others are left out: captions and
    keypoints annotate the same images.
    """
    files = list(files_below(path, (".json",)))
    named = [file for file in files if file.name.startswith("instances")]
    for file in named or files:
        content = read_json(file)
        if is_coco(content):
            yield file, content


def is_coco(content: Any) -> bool:
    """Whether the content of a .json is that of COCO's instances."""
    keys = ("images", "annotations", "categories")
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)


def split_of_file(file: Path, root: Path) -> str | None:
    """Returns the split in the name of a file or its folders, for instance of train2017.json."""
    words = file.stem.replace("-", "_").replace(".", "_").split("_")
    words += [word.rstrip("0123456789") for word in words]
    in_name = next((split for word in words if (split := split_named(word))), None)
    return in_name or split_of(file, root)


def _categories(file, content):
    names: dict[Any, str] = {}
    try:
        for item in content["categories"]:
            name = str(item["name"]).strip()
            if names.setdefault(item["id"], name) != name:
                raise ValueError(
                    f"{file}: categories {names[item['id']]!r} and {name!r} have the same id, "
                    f"{item['id']!r}; give each its own."
                )
    except (TypeError, KeyError):
        raise ValueError(f"{file}: a category has no id or no name; export it again.") from None
    return names


def _named(categories, names, used):
    """The names in order, without those of unused categories that are only supercategories."""
    # COCO's own person is its own supercategory.
    above = {
        item.get("supercategory")
        for item in categories
        if item["name"] != item.get("supercategory")
    }
    return [name for key, name in names.items() if key in used or name not in above]


def _hashable(key):
    return key if isinstance(key, int | str) else repr(key)


def _id(item, number):
    return item.get("id", number) if isinstance(item, dict) else number


def _pixels(segmentation: Any, size: Size) -> Any:
    if isinstance(segmentation, dict):
        if (found := segmentation.get("size") or list(size)) != list(size):
            raise ValueError(f"has run lengths for the size {found}, not {list(size)}")
        return coco_runs(segmentation.get("counts"), size)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("has no segmentation, only a box; export instance segmentation")
    flat = all(isinstance(value, int | float) for value in segmentation)
    return coco_polygons([segmentation] if flat else segmentation, size)
