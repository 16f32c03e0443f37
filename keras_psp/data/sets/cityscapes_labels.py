"""The labels of Cityscapes: ids, categories, and which of them have instances.

They are the same as in cityscapesScripts, helpers/labels.py. Label -1, license plate, occurs
in no label file and isn't listed.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Label(NamedTuple):
    """A label of the `*_labelIds.png` files."""

    id: int  # its value in the files
    name: str
    category: str
    train_id: int | None  # class index, or None for a label that evaluation ignores
    has_instances: bool  # whether its objects are numbered in `*_instanceIds.png`


_TEXT = Path(__file__).with_name("cityscapes_labels.json").read_text("utf-8")
LABELS = tuple(Label(*row) for row in json.loads(_TEXT))
"""All labels; a label's position is its id."""

CLASSES = tuple(label for label in LABELS if label.train_id is not None)
"""The 19 labels that are trained and evaluated, in the order of their class indices."""


def label_ids(classes: np.ndarray) -> np.ndarray:
    """Converts class indices of any shape to uint8 label ids, which the benchmark's server uses.

    Void (255) becomes 0, unlabeled.
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
