"""The measures of the Cityscapes benchmark.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (CVPR 2016),
section 3.1, in the reading of cityscapesScripts, evaluation/evalPixelLevelSemanticLabeling.py.
"""

import os
from collections.abc import Mapping

import numpy as np
import rich.console
import rich.table

from keras_psp.data.sets.cityscapes_labels import CLASSES, LABELS
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
"""Pixels of an average instance of each class; the benchmark's constants."""

# Ids up to here stand for a whole label, larger ones are 1000 * label id + number.
_LARGEST_WITHOUT_INSTANCE = 1000

_EVALUATED = np.array([label.train_id is not None for label in LABELS])
_SIZE = np.array([AVERAGE_INSTANCE_SIZES.get(label.name, np.nan) for label in LABELS])
_CATEGORY_IDS = {
    category: np.array([label.id for label in LABELS if label.category == category])
    for category in dict.fromkeys(label.category for label in LABELS)
}
_CATEGORY = np.array([list(_CATEGORY_IDS).index(label.category) for label in LABELS])
# Of the labels of such a category some may be ignored, but all have instances.
_WITH_INSTANCES = [all(LABELS[i].has_instances for i in ids) for ids in _CATEGORY_IDS.values()]

_COUNTS = ("confusion", "images", "_by_class", "_by_category")


class CityscapesMeasures:
    """IoU and instance-level IoU of the 19 classes and 7 categories of Cityscapes.

        measures = CityscapesMeasures()
        for index, classes in enumerate(predictions):
            _, truth = source.example("val", index)
            instances = source.instances("val", index)
            measures.update(label_ids(truth), label_ids(classes), instances)
        measures.print()

    with `label_ids` of `keras_psp.data.sets.cityscapes_labels`.

    IoU is TP / (TP + FP + FN) over the pixels of all images. iIoU weights each pixel in TP
    and FN by the average size of its class' instances over the size of its own instance,
    so that a small car counts as much as a large one; pixels of objects that are not told
    apart (id below 1000: groups) are in neither. Pixels whose truth is an ignored label
    don't count at all. Two objects from parts of a data set are added with `+`, and can be
    pickled to get there.

    Attributes:
        confusion: (34, 34) int64 counts of pixels, row the truth's label id, column the
            prediction's.
        images: number of images.
    """

    def __init__(self):
        self.confusion = np.zeros((len(LABELS), len(LABELS)), np.int64)
        self.images = 0
        # Weighted TP and FN, by label id and by category.
        self._by_class = np.zeros((len(LABELS), 2))
        self._by_category = np.zeros((len(_CATEGORY_IDS), 2))

    def update(
        self,
        truth_label_ids: np.ndarray,
        prediction_label_ids: np.ndarray,
        instance_ids: np.ndarray,
    ) -> None:
        """Count one image.

        Args:
            truth_label_ids: (height, width) integers, the values of `*_labelIds.png`.
            prediction_label_ids: the same; label ids, not class indices.
            instance_ids: (height, width) integers, the values of `*_instanceIds.png`.

        Raises:
            ValueError: shapes differ or a value is no label, and nothing was counted.
        """
        truth = _checked_labels("truth_label_ids", truth_label_ids)
        prediction = _checked_labels("prediction_label_ids", prediction_label_ids)
        instances = _checked("instance_ids", instance_ids)
        for name, values in (
            ("prediction_label_ids", prediction),
            ("instance_ids", instances),
        ):
            if values.shape != truth.shape:
                raise ValueError(
                    f"{name} has shape {values.shape} and truth_label_ids {truth.shape}; all "
                    "must have the image's size."
                )
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
        """All that was counted, for `np.savez(path, **measures.arrays())`."""
        return {name.lstrip("_"): np.array(getattr(self, name)) for name in _COUNTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "CityscapesMeasures":
        """One like that whose `arrays()` these are."""
        measures = cls()
        for name in _COUNTS:
            setattr(measures, name, np.array(arrays[name.lstrip("_")]))
        measures.images = int(measures.images)
        return measures

    @property
    def class_iou(self) -> dict[str, float]:
        """IoU of each class; NaN for one in neither truth nor predictions."""
        return {label.name: self._iou(np.array([label.id])) for label in CLASSES}

    @property
    def class_iiou(self) -> dict[str, float]:
        """Instance-level IoU of the classes with instances; NaN for one that does not occur."""
        return {
            label.name: self._iiou(self._by_class[label.id], np.array([label.id]))
            for label in CLASSES
            if label.has_instances
        }

    @property
    def category_iou(self) -> dict[str, float]:
        """IoU of each category; a class taken for another of its category is right."""
        evaluated = {name: ids[_EVALUATED[ids]] for name, ids in _CATEGORY_IDS.items()}
        return {name: self._iou(ids) for name, ids in evaluated.items() if ids.size}

    @property
    def category_iiou(self) -> dict[str, float]:
        """Instance-level IoU of the categories with instances.

        Unlike in `category_iou`, a prediction of an ignored label (caravan, trailer) is
        right too where the truth is of its category, and wrong elsewhere.
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
        return _mean(self.class_iou)

    @property
    def mean_class_iiou(self) -> float:
        return _mean(self.class_iiou)

    @property
    def mean_category_iou(self) -> float:
        return _mean(self.category_iou)

    @property
    def mean_category_iiou(self) -> float:
        return _mean(self.category_iiou)

    def _iou(self, ids):
        right = self.confusion[np.ix_(ids, ids)].sum()
        return float(ratio(right, self.confusion[ids].sum() + self._false_positives(ids)))

    def _iiou(self, weighted, ids):
        return float(ratio(weighted[0], weighted.sum() + self._false_positives(ids)))

    def _false_positives(self, ids):
        """Pixels predicted as one of the ids whose truth is evaluated and none of them."""
        elsewhere = _EVALUATED.copy()
        elsewhere[ids] = False
        return self.confusion[np.ix_(np.flatnonzero(elsewhere), ids)].sum()

    def table(self) -> rich.table.Table:
        """IoU and iIoU of classes, then categories; "-" stands where one is not defined."""
        columns = ("class, category", "IoU", "iIoU")
        return percent_table("Cityscapes", columns, self._classes(), self._categories())

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Print the table and the means, to stdout unless a console is given."""
        means = {
            "class IoU": self.mean_class_iou,
            "class iIoU": self.mean_class_iiou,
            "category IoU": self.mean_category_iou,
            "category iIoU": self.mean_category_iiou,
        }
        show([self.table()], means, console)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write a row per class and category, in shares from 0 to 1."""
        parts = {"class": self._classes(), "category": self._categories()}
        rows = [(kind, *row) for kind, part in parts.items() for row in part]
        write_csv(path, ("kind", "name", "iou", "iiou"), rows)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write all measures, in shares from 0 to 1; null where one is not defined."""
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


def _checked(name, values):
    values = np.asarray(values)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{name} has shape {values.shape} and dtype {values.dtype}; it must be "
            "(height, width) integers."
        )
    return values


def _checked_labels(name, values):
    values = _checked(name, values)
    wrong = values[(values < 0) | (values >= len(LABELS))]
    if wrong.size:
        raise ValueError(
            f"{name} has the value {wrong[0]}, which is no label id (0 to {len(LABELS) - 1}); "
            "turn class indices into label ids with data.cityscapes_labels.label_ids."
        )
    return values


def _weigh(prediction, instances):
    """Label ids of an image's instances; their weighted TP and FN, as class and as category."""
    apart = instances > _LARGEST_WITHOUT_INSTANCE
    ids, instance, sizes = np.unique(instances[apart], return_inverse=True, return_counts=True)
    labels = ids // 1000
    known = np.append(~_EVALUATED | np.isfinite(_SIZE), False)
    unknown = ~known[np.minimum(labels, len(LABELS))]
    if unknown.any():
        raise ValueError(
            f"instance_ids has the value {ids[unknown][0]}, but label {labels[unknown][0]} has "
            "no instances; give the values of *_instanceIds.png."
        )
    found, expected = prediction[apart], labels[instance]
    weights = _SIZE[labels] / sizes

    def weighted(right):
        right = np.bincount(instance[right], minlength=len(ids))
        return np.stack([right * weights, (sizes - right) * weights], axis=1)

    as_class = weighted(found == expected)
    as_category = weighted(_CATEGORY[found] == _CATEGORY[expected])
    counted = _EVALUATED[labels]
    return labels[counted], as_class[counted], as_category[counted]
