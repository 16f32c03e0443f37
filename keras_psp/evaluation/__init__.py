"""Judging a model's predictions."""

from keras_psp.evaluation.table import class_table, report

__all__ = ["class_table", "report"]
