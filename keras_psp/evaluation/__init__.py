"""Metrics of whole data sets: mean IoU, boundaries, groups of errors, and the HTML report."""

from keras_psp.evaluation.boundary import BoundaryIoU
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.errors import ErrorGroups
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.result import Evaluation
from keras_psp.evaluation.run import evaluate
from keras_psp.evaluation.table import class_table, report

__all__ = [
    "BoundaryIoU",
    "CityscapesMeasures",
    "ErrorGroups",
    "Evaluation",
    "Measures",
    "class_table",
    "evaluate",
    "report",
]
