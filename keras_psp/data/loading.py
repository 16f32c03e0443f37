"""Data sets by name."""

import os
from collections.abc import Callable
from typing import Any

from keras_psp.data.folder import ImageFolder
from keras_psp.data.labels.coco import CocoInstances
from keras_psp.data.labels.cvat import Cvat
from keras_psp.data.labels.labelme import Labelme
from keras_psp.data.labels.roboflow import RoboflowMasks
from keras_psp.data.labels.supervisely import Supervisely
from keras_psp.data.lists import FileList
from keras_psp.data.sets.registry import SETS
from keras_psp.data.split import Split
from keras_psp.data.tfds import TFDSSource
from keras_psp.files import local_path

_NAMING = ("ignore_class", "class_names", "palette")
_SHAPES = ("unlabeled", *_NAMING)
# Sources for your own data: their classes, arguments, and what they read.
_OWN: dict[str, tuple[Callable, tuple[str, ...], str]] = {
    "folder": (
        ImageFolder,
        ("images", "labels", "label_map", "channels", *_NAMING),
        "your own images/ and labels/, or other names by patterns",
    ),
    "list": (
        FileList,
        ("lists", "label_map", "channels", *_NAMING),
        "text files with `image label` lines, as semseg's",
    ),
    "labelme": (Labelme, _SHAPES, "a .json of labelme next to each image"),
    "coco_instances": (
        CocoInstances,
        ("crowd", *_SHAPES),
        "a .json in COCO's format with polygons or run lengths",
    ),
    "cvat": (Cvat, _SHAPES, "an annotations.xml of 'CVAT for images'"),
    "supervisely": (Supervisely, _SHAPES, "a project of Supervisely with meta.json"),
    "roboflow": (RoboflowMasks, _NAMING, "Roboflow's 'Semantic Segmentation Masks'"),
}
OWN_DATA = tuple(_OWN)
"""Names of the sources for your own data."""

_NO_FOLDER = "no such folder; give the folder of the images and labels, or a data set's name."


def list_datasets() -> dict[str, str]:
    """Returns the names that `load` takes, each with a line about its classes and splits."""
    datasets = {}
    for name, entry in sorted(SETS.items()):
        counts = ", ".join(f"{split} {count:,}" for split, count in entry.counts.items())
        datasets[name] = f"{entry.title}: {entry.summary}; {counts}"
    own = {name: f"{text} ({kind.__name__})" for name, (kind, _, text) in _OWN.items()}
    tfds = "a data set of tensorflow-datasets with images and masks (TFDSSource)"
    return {**datasets, **own, "tfds:NAME": tfds}


def load(
    name: str,
    split: str | None = None,
    *,
    root: str | os.PathLike | None = None,
    complete: bool = True,
    **options: Any,
) -> Any:
    """Opens a data set, or one split of it.

    Args:
        name: one of `list_datasets()`.
        split: one of the source's `splits`; by default all of them.
        root: folder of the files; by default the folder `name` in the one that the environment
            variable KERAS_PSP_DATA names. For "tfds:NAME", the `data_dir` of tensorflow-datasets.
        complete: whether every split must have the published number of examples, and every
            image its label. `False` accepts a copy that is partial on purpose.
        options: further arguments: for your own data and "tfds:NAME", those of the class that
            `list_datasets()` names; for "voc2012", `sbd`, the folder of benchmark_RELEASE; for
            "coco", `classes`, "coco" or "voc2012".

    Returns:
        A source (`ImagePairs` or `TFDSSource`), which `training_batches` and
        `evaluation_batches` read; with `split` a `Split`, a sequence of (image, mask).

    Raises:
        ValueError: if the name, the split or an argument is wrong, or files are missing or
            in another layout; the message says where to get them.

    Example:
        ```python
        source = keras_psp.data.load("ade20k", root="/data/ADEChallengeData2016")
        batches = keras_psp.data.training_batches(source, batch_size=16, crop_size=473)
        image, mask = keras_psp.data.load("ade20k", "val", root="/data/ADEChallengeData2016")[0]
        ```
    """
    source = _opened(name, root, complete, options)
    return source if split is None else Split(source, split)


def _opened(name, root, complete, options):
    if name.startswith("tfds:"):
        if "channels" in options:
            raise ValueError(f"{name}: tensorflow-datasets are read as RGB; omit channels.")
        return TFDSSource(name.removeprefix("tfds:"), data_dir=root, **options)
    if name in _OWN:
        if root is None:
            raise ValueError(f"load({name!r}) needs root=..., the folder of the files.")
        kind, known, _ = _OWN[name]
        _check_options(name, options, known)
        return kind(root, **options)
    if name not in SETS:
        if "/" in name or os.sep in name:
            folder = local_path("the data set", name)
            raise ValueError(
                f"{folder}: " + ("is a file; give a folder." if folder.exists() else _NO_FOLDER)
            )
        raise ValueError(f"Data set {name!r} is unknown; choose {', '.join(list_datasets())}.")
    entry = SETS[name]
    _check_options(name, options, entry.options)
    shared = os.environ.get("KERAS_PSP_DATA")
    if root is None and not shared:
        raise entry.missing(
            f"{name}: no folder is given; pass root=..., or set KERAS_PSP_DATA to a "
            f"folder that contains {name}/."
        )
    if root is None:
        folder = local_path("KERAS_PSP_DATA", shared) / name
    else:
        folder = local_path("root", root)
    if not folder.is_dir():
        raise entry.missing(f"{folder}: no such folder; give the one that holds all of this.")
    return entry.open(folder, complete=complete, **options)


def _check_options(name, options, known):
    for option in options.keys() - set(known):
        raise ValueError(
            f"{name} takes no argument {option!r}; "
            + (f"it takes {', '.join(known)}." if known else "it takes none.")
        )
