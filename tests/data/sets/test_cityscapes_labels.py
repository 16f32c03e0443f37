import numpy as np
import pytest

from keras_psp.data.sets.cityscapes_labels import CLASSES, LABELS, label_ids
from keras_psp.labels import labels


def test_ids_are_positions_and_classes_are_those_of_the_checkpoints():
    assert [label.id for label in LABELS] == list(range(34))
    assert [label.train_id for label in CLASSES] == list(range(19))
    assert tuple(label.name for label in CLASSES) == labels("cityscapes").class_names


def test_categories_and_instances():
    # Cordts et al. 2016, figure 1: 30 classes in 8 groups; void has 4 ids more.
    sizes = {}
    for label in LABELS:
        sizes[label.category] = sizes.get(label.category, 0) + 1
    assert sizes == {
        **{"void": 7, "flat": 4, "construction": 6, "object": 4},
        **{"nature": 2, "sky": 1, "human": 2, "vehicle": 8},
    }
    with_instances = {label.category for label in LABELS if label.has_instances}
    assert with_instances == {"human", "vehicle"}
    assert sum(label.has_instances for label in CLASSES) == 8


def test_label_ids():
    classes = np.array([[0, 18, 255], [13, 10, 1]])
    assert label_ids(classes).tolist() == [[7, 33, 0], [26, 23, 8]]
    assert label_ids(classes.astype(np.uint8)).dtype == np.uint8
    for wrong in (19, -1, 254):
        with pytest.raises(
            ValueError, match=rf"value {wrong} isn't a class of Cityscapes \(0 to 18"
        ):
            label_ids(np.array([0, wrong]))
