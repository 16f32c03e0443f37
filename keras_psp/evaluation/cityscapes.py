"""The measures of the Cityscapes benchmark.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (CVPR 2016),
section 3.1, as implemented in cityscapesScripts, evaluation/evalPixelLevelSemanticLabeling.py.
"""

import os
from collections.abc import Mapping

import numpy as np
import rich.console
import rich.table

from keras_psp.data.sets.cityscapes_labels import CLASSES, LABELS
from keras_psp.evaluation.checks import checked_masks
from keras_psp.evaluation.figures import percent_table, show, write_csv, write_json
from keras_psp.metrics.confusion import confusion_matrix, mean_of_present, ratio

AVERAGE_INSTANCE_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Average size of an instance of each class in pixels; constants of the benchmark."""

# Larger ids are 1000 * label id + number; smaller ones are a label without separate instances.
_LARGEST_WITHOUT_INSTANCE = 1000

_EVALUATED = np.array([label.train_id is not None for label in LABELS])
_SIZE = np.array([AVERAGE_INSTANCE_SIZES.get(label.name, np.nan) for label in LABELS])
_CATEGORY_IDS = {
    category: np.array([label.id for label in LABELS if label.category == category])
    for category in dict.fromkeys(label.category for label in LABELS)
}
_CATEGORY = np.array([list(_CATEGORY_IDS).index(label.category) for label in LABELS])
# All labels of such a category have instances, though some of them may be ignored.
_WITH_INSTANCES = [all(LABELS[i].has_instances for i in ids) for ids in _CATEGORY_IDS.values()]

_COUNTS = ("confusion", "images", "_by_class", "_by_category")


class CityscapesMeasures:
    """IoU and instance-level IoU (iIoU) of the 19 classes and 7 categories of Cityscapes.

    IoU is TP / (TP + FP + FN) over the pixels of all images. iIoU weights each pixel in TP and FN
    by the average size of its class's instances divided by the size of its own instance, so that
    a small car counts as much as a large one; pixels of groups of objects (ids below 1000) are in
    neither. Pixels whose truth is an ignored label do not count at all.

    `+` combines counts from several processes.

    Attributes:
        confusion: (34, 34) int64 pixel counts; rows are the truth's label ids, columns the
            prediction's.
        images: number of images.

    Example:
        from keras_psp.data.sets.cityscapes_labels import label_ids

        measures = CityscapesMeasures()
        for index, classes in enumerate(predictions):
            _, truth = source.example("val", index)
            instances = source.instances("val", index)
            measures.update(label_ids(truth), label_ids(classes), instances)
        measures.print()
    """

    def __init__(self):
        self.confusion = np.zeros((len(LABELS), len(LABELS)), np.int64)
        self.images = 0
        # Weighted TP and FN by label id and by category.
        self._by_class = np.zeros((len(LABELS), 2))
        self._by_category = np.zeros((len(_CATEGORY_IDS), 2))

    def update(
        self,
        truth_label_ids: np.ndarray,
        prediction_label_ids: np.ndarray,
        instance_ids: np.ndarray,
    ) -> None:
        """Counts one image.

        Args:
            truth_label_ids: (height, width) integers, the values of `*_labelIds.png`.
            prediction_label_ids: (height, width) integers; label ids, not class indices.
            instance_ids: (height, width) integers, the values of `*_instanceIds.png`.

        Raises:
            ValueError: if shapes differ or a value is invalid; nothing is counted then.
        """
        truth, prediction, instances = checked_masks(
            truth_label_ids=truth_label_ids,
            prediction_label_ids=prediction_label_ids,
            instance_ids=instance_ids,
        )
        _check_labels("truth_label_ids", truth)
        _check_labels("prediction_label_ids", prediction)
        labels, as_class, as_category = _weigh(prediction, instances)
        self.confusion += confusion_matrix(truth, prediction, len(LABELS))[:, :-1]
        self.images += 1
        np.add.at(self._by_class, labels, as_class)
        np.add.at(self._by_category, _CATEGORY[labels], as_category)

    def __add__(self, other: "CityscapesMeasures") -> "CityscapesMeasures":
        if not isinstance(other, CityscapesMeasures):
            return NotImplemented
        total = CityscapesMeasures()
        for name in _COUNTS:
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def arrays(self) -> dict[str, np.ndarray]:
        """All counts, e.g. for `np.savez(path, **measures.arrays())`."""
        return {name.lstrip("_"): np.array(getattr(self, name)) for name in _COUNTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "CityscapesMeasures":
        """Restores the counts that `arrays()` returned."""
        measures = cls()
        for name in _COUNTS:
            setattr(measures, name, np.array(arrays[name.lstrip("_")]))
        measures.images = int(measures.images)
        return measures

    @property
    def class_iou(self) -> dict[str, float]:
        """IoU of each class; NaN for a class absent from both truth and predictions."""
        return {label.name: self._iou(np.array([label.id])) for label in CLASSES}

    @property
    def class_iiou(self) -> dict[str, float]:
        """Instance-level IoU of the classes with instances; NaN for absent classes."""
        return {
            label.name: self._iiou(self._by_class[label.id], np.array([label.id]))
            for label in CLASSES
            if label.has_instances
        }

    @property
    def category_iou(self) -> dict[str, float]:
        """IoU of each category; confusion within a category counts as correct."""
        evaluated = {name: ids[_EVALUATED[ids]] for name, ids in _CATEGORY_IDS.items()}
        return {name: self._iou(ids) for name, ids in evaluated.items() if ids.size}

    @property
    def category_iiou(self) -> dict[str, float]:
        """Instance-level IoU of the categories with instances.

        Unlike in `category_iou`, a predicted ignored label (caravan, trailer) also counts as
        correct where the truth is of its category, and as wrong elsewhere.
        """
        return {
            name: self._iiou(weighted, ids)
            for (name, ids), weighted, instances in zip(
                _CATEGORY_IDS.items(), self._by_category, _WITH_INSTANCES, strict=True
            )
            if instances
        }

    @property
    def mean_class_iou(self) -> float:
        """Mean of `class_iou` over the classes that occur."""
        return _mean(self.class_iou)

    @property
    def mean_class_iiou(self) -> float:
        """Mean of `class_iiou` over the classes that occur."""
        return _mean(self.class_iiou)

    @property
    def mean_category_iou(self) -> float:
        """Mean of `category_iou` over the categories that occur."""
        return _mean(self.category_iou)

    @property
    def mean_category_iiou(self) -> float:
        """Mean of `category_iiou` over the categories that occur."""
        return _mean(self.category_iiou)

    def means(self) -> dict[str, float]:
        """The four means, by name."""
        return {
            "class IoU": self.mean_class_iou,
            "class iIoU": self.mean_class_iiou,
            "category IoU": self.mean_category_iou,
            "category iIoU": self.mean_category_iiou,
        }

    def _iou(self, ids):
        correct = self.confusion[np.ix_(ids, ids)].sum()
        return float(ratio(correct, self.confusion[ids].sum() + self._false_positives(ids)))

    def _iiou(self, weighted, ids):
        return float(ratio(weighted[0], weighted.sum() + self._false_positives(ids)))

    def _false_positives(self, ids):
        """Pixels predicted as one of the ids whose truth is another evaluated label."""
        elsewhere = _EVALUATED.copy()
        elsewhere[ids] = False
        return self.confusion[np.ix_(np.flatnonzero(elsewhere), ids)].sum()

    def table(self) -> rich.table.Table:
        """IoU and iIoU of classes, then categories; "-" where one is undefined."""
        columns = ("class, category", "IoU", "iIoU")
        return percent_table("Cityscapes", columns, self._classes(), self._categories())

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Prints the table and the means, to stdout unless a console is given."""
        show(self.table(), self.means(), console)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Writes one row per class and category, as fractions from 0 to 1."""
        parts = {"class": self._classes(), "category": self._categories()}
        rows = [(kind, *row) for kind, part in parts.items() for row in part]
        write_csv(path, ("kind", "name", "iou", "iiou"), rows)

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes all measures, as fractions from 0 to 1; null where one is undefined."""
        columns = ("name", "iou", "iiou")
        content = {
            "images": self.images,
            "mean_class_iou": self.mean_class_iou,
            "mean_class_iiou": self.mean_class_iiou,
            "mean_category_iou": self.mean_category_iou,
            "mean_category_iiou": self.mean_category_iiou,
            "classes": [dict(zip(columns, row, strict=True)) for row in self._classes()],
            "categories": [dict(zip(columns, row, strict=True)) for row in self._categories()],
        }
        write_json(path, content)

    def _classes(self):
        return _rows(self.class_iou, self.class_iiou)

    def _categories(self):
        return _rows(self.category_iou, self.category_iiou)


def _rows(iou, iiou):
    return [(name, value, iiou.get(name, float("nan"))) for name, value in iou.items()]


def _mean(values):
    return mean_of_present(np.array(list(values.values())))


def _check_labels(name, values):
    invalid = values[(values < 0) | (values >= len(LABELS))]
    if invalid.size:
        raise ValueError(
            f"{name} has the value {invalid[0]}, which is not a label id (0 to "
            f"{len(LABELS) - 1}); convert class indices with "
            "keras_psp.data.sets.cityscapes_labels.label_ids."
        )


def _weigh(prediction, instances):
    """Label ids of an image's instances; their weighted TP and FN by class and by category."""
    separate = instances > _LARGEST_WITHOUT_INSTANCE
    ids, instance, sizes = np.unique(instances[separate], return_inverse=True, return_counts=True)
    labels = ids // 1000
    known = np.append(~_EVALUATED | np.isfinite(_SIZE), False)
    unknown = ~known[np.minimum(labels, len(LABELS))]
    if unknown.any():
        raise ValueError(
            f"instance_ids has the value {ids[unknown][0]}, but label {labels[unknown][0]} has "
            "no instances; give the values of *_instanceIds.png."
        )
    predicted, true = prediction[separate], labels[instance]
    weights = _SIZE[labels] / sizes

    def weighted(correct):
        hits = np.bincount(instance[correct], minlength=len(ids))
        return np.stack([hits * weights, (sizes - hits) * weights], axis=1)

    as_class = weighted(predicted == true)
    as_category = weighted(_CATEGORY[predicted] == _CATEGORY[true])
    evaluated = _EVALUATED[labels]
    return labels[evaluated], as_class[evaluated], as_category[evaluated]
