"""Recognizes which labeling tool a folder comes from, by its contents."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from keras_psp.data.division import split_folders
from keras_psp.data.images import IMAGE_SUFFIXES
from keras_psp.data.labels.cvat import is_cvat
from keras_psp.data.labels.finding import files_below, read_json
from keras_psp.data.labels.roboflow import CLASSES
from keras_psp.data.labels.supervisely import is_supervisely
from keras_psp.data.patterns import suggested

_MOST_JSON = 50  # files that are looked at
_PART = 1 << 20  # bytes at the beginning and at the end of a large file
_MASKS = (".png", ".tif", ".tiff", ".bmp", ".gif")


@dataclasses.dataclass(frozen=True)
class Recognized:
    """What is in a folder.

    Attributes:
        name: the name for `keras_psp.data.load`.
        options: arguments for `load`, by name.
        what: what was recognized, e.g. "labelme annotations (12 .json files)".
    """

    name: str
    options: Mapping[str, str]
    what: str

    def how_to_open(self) -> str:
        """Returns a sentence that says how to open it."""
        options = " and ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"This looks like {self.what}; open it as {self.name!r}" + (
            f", with {options}." if options else "."
        )


def recognized(path: Path) -> Recognized | None:
    """Recognizes what a folder or an annotation file contains; None if it is unknown."""
    if not path.exists():
        return None
    if path.is_file():
        return _of_file(path)
    with contextlib.suppress(ValueError):
        if (path / "meta.json").is_file() and is_supervisely(read_json(path / "meta.json")):
            return Recognized("supervisely", {}, "a project of Supervisely (meta.json)")
    folders = [path, *split_folders(path).values()]
    if any((folder / CLASSES).is_file() for folder in folders):
        return Recognized("roboflow", {}, f"Roboflow's masks ({CLASSES})")
    if any((folder / "images").is_dir() and _has_png(folder / "labels") for folder in folders):
        return Recognized("folder", {}, "images/ and labels/")
    for file in files_below(path, (".xml",)):
        if is_cvat(file):
            return Recognized("cvat", {}, f"annotations of CVAT ({file.relative_to(path)})")
    return _by_json(path) or _by_masks(path, folders)


def _has_png(folder):
    return folder.is_dir() and any(name.lower().endswith(".png") for name in _names(folder))


def _of_file(path):
    if path.suffix.lower() == ".xml" and is_cvat(path):
        return Recognized("cvat", {}, "annotations of CVAT")
    kind = _kind_of_json(path) if path.suffix.lower() == ".json" else None
    titles = {"coco_instances": "COCO instances", "labelme": "annotations of labelme"}
    return Recognized(kind, {}, titles[kind]) if kind else None


def _by_json(path):
    files = list(files_below(path, (".json",)))
    instances = [file for file in files if file.name.startswith("instances")]
    for file in (instances or files)[:_MOST_JSON]:
        kind = _kind_of_json(file)
        if kind == "coco_instances":
            return Recognized(kind, {}, f"COCO instances ({file.relative_to(path)})")
        if kind == "labelme":
            return Recognized(kind, {}, f"annotations of labelme ({len(files)} .json files)")
    return None


def _kind_of_json(path: Path) -> str | None:
    """Returns "coco_instances", "labelme" or None, by the keys in a file, which may be large."""
    try:
        with open(path, "rb") as file:
            text = file.read(_PART)
            if os.path.getsize(path) > 2 * _PART:
                file.seek(-_PART, os.SEEK_END)
            text += file.read(_PART)
    except OSError:
        return None
    if b'"shapes"' in text and b'"imagePath"' in text:
        return "labelme"
    found = [key in text for key in (b'"images"', b'"annotations"', b'"categories"')]
    return "coco_instances" if sum(found) >= 2 and b'"segments_info"' not in text else None


def _by_masks(path, folders):
    """Recognizes images and masks whose names correspond, in two folders or in one."""
    for folder in folders:
        inside = {entry.name: _names(entry) for entry in _entries(folder) if entry.is_dir()}
        inside[""] = _names(folder)
        for images, labels in _candidates(inside):
            patterns = _patterns(inside[images], inside[labels], images == labels)
            if patterns is None:
                continue
            first = "/".join(filter(None, (images, patterns[0])))
            second = "/".join(filter(None, (labels, patterns[1])))
            where = f"{images}/ and {labels}/" if images != labels else f"{images or 'one folder'}"
            return Recognized(
                "folder", {"images": first, "labels": second}, f"images and masks in {where}"
            )
    return None


def _entries(folder):
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _names(folder):
    return [e.name for e in _entries(folder) if e.suffix.lower() in IMAGE_SUFFIXES and e.is_file()]


def _candidates(inside: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yields pairs of names, a folder of images and one of labels, likely ones first."""
    likely = ("mask", "label", "annot", "segmentationclass", "gt", "truth")

    def is_likely(name):
        return any(word in name.lower() for word in likely)

    names = sorted((name for name in inside if inside[name]), key=lambda name: not is_likely(name))
    for labels in names:
        for images in sorted(names, key=is_likely):
            if images != labels and (is_likely(labels) or not is_likely(images)):
                yield images, labels
    for name in names:
        yield name, name


def _patterns(images, labels, together):
    """Returns patterns of two lists of names by which each image has a label, or None."""
    masks = [name for name in labels if os.path.splitext(name)[1].lower() in _MASKS]
    if together:
        marked = [name for name in masks if any(word in name.lower() for word in ("mask", "label"))]
        images, masks = [name for name in images if name not in marked], marked
    if not images or not masks:
        return None
    stems = {os.path.splitext(name)[0] for name in images}
    suffixes = {os.path.splitext(name)[1] for name in masks}
    if stems <= {os.path.splitext(name)[0] for name in masks} and len(suffixes) == 1:
        return "*", "{stem}" + suffixes.pop()
    patterns = suggested(images, masks)
    if patterns is None or patterns[0] != "*":
        return patterns
    expected = {
        patterns[1].format(stem=os.path.splitext(name)[0], name=name)
        for name in images
        if not patterns[1].count("{") > 1
    }
    return patterns if expected and expected <= set(masks) else None
