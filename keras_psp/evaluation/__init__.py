"""Judging a model's predictions."""

from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.evaluation.table import class_table, report

__all__ = ["Segmenter", "class_table", "report"]
