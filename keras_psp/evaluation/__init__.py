"""Metrics of whole data sets: mean IoU, boundary IoU, error groups and the HTML report."""

from keras_psp.evaluation.boundary import BoundaryIoU
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.errors import ErrorGroups
from keras_psp.evaluation.measures import Measures, class_table, print_class_table
from keras_psp.evaluation.result import Evaluation
from keras_psp.evaluation.run import evaluate

__all__ = [
    "BoundaryIoU",
    "CityscapesMeasures",
    "ErrorGroups",
    "Evaluation",
    "Measures",
    "class_table",
    "evaluate",
    "print_class_table",
]
