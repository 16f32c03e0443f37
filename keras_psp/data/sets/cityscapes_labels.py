"""The labels of Cityscapes: ids, categories, and which of them have instances.

They are the same as in cityscapesScripts, helpers/labels.py. Label -1, license plate, occurs
in no label file and isn't listed.
"""

from typing import NamedTuple

import numpy as np


class Label(NamedTuple):
    """A label of the `*_labelIds.png` files.

    Attributes:
        id: its value in the files.
        name: what it means.
        category: name of its group.
        train_id: class index, or None for a label that evaluation ignores.
        has_instances: whether its objects are numbered in `*_instanceIds.png`.
    """

    id: int
    name: str
    category: str
    train_id: int | None = None
    has_instances: bool = False


LABELS = (
    Label(0, "unlabeled", "void"),
    Label(1, "ego vehicle", "void"),
    Label(2, "rectification border", "void"),
    Label(3, "out of roi", "void"),
    Label(4, "static", "void"),
    Label(5, "dynamic", "void"),
    Label(6, "ground", "void"),
    Label(7, "road", "flat", 0),
    Label(8, "sidewalk", "flat", 1),
    Label(9, "parking", "flat"),
    Label(10, "rail track", "flat"),
    Label(11, "building", "construction", 2),
    Label(12, "wall", "construction", 3),
    Label(13, "fence", "construction", 4),
    Label(14, "guard rail", "construction"),
    Label(15, "bridge", "construction"),
    Label(16, "tunnel", "construction"),
    Label(17, "pole", "object", 5),
    Label(18, "polegroup", "object"),
    Label(19, "traffic light", "object", 6),
    Label(20, "traffic sign", "object", 7),
    Label(21, "vegetation", "nature", 8),
    Label(22, "terrain", "nature", 9),
    Label(23, "sky", "sky", 10),
    Label(24, "person", "human", 11, True),
    Label(25, "rider", "human", 12, True),
    Label(26, "car", "vehicle", 13, True),
    Label(27, "truck", "vehicle", 14, True),
    Label(28, "bus", "vehicle", 15, True),
    Label(29, "caravan", "vehicle", None, True),
    Label(30, "trailer", "vehicle", None, True),
    Label(31, "train", "vehicle", 16, True),
    Label(32, "motorcycle", "vehicle", 17, True),
    Label(33, "bicycle", "vehicle", 18, True),
)
"""All labels; a label's position is its id."""

CLASSES = tuple(label for label in LABELS if label.train_id is not None)
"""The 19 labels that are trained and evaluated, in the order of their class indices."""


def label_ids(classes: np.ndarray) -> np.ndarray:
    """Converts class indices to label ids, which the benchmark's server and measures use.

    Args:
        classes: integers of any shape, 0 to 18, or 255 for void.

    Returns:
        uint8 of the same shape; void becomes 0, unlabeled.

    Raises:
        ValueError: if there is another value.
    """
    classes = np.asarray(classes)
    wrong = classes[((classes < 0) | (classes >= len(CLASSES))) & (classes != _VOID)]
    if wrong.size:
        raise ValueError(
            f"The value {wrong[0]} isn't a class of Cityscapes (0 to {len(CLASSES) - 1}, or "
            f"{_VOID} for void); give class indices, as a network with its 19 classes predicts."
        )
    return _IDS[classes]


_VOID = 255
_IDS = np.zeros(256, np.uint8)
_IDS[: len(CLASSES)] = [label.id for label in CLASSES]
