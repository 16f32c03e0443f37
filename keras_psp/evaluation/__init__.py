"""Judging a model's predictions."""

from keras_psp.evaluation.files import predict_files
from keras_psp.evaluation.prediction import Prediction, Predictions, predict
from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.evaluation.table import class_table, report
from keras_psp.evaluation.video import predict_video

__all__ = [
    "Prediction",
    "Predictions",
    "Segmenter",
    "class_table",
    "predict",
    "predict_files",
    "predict_video",
    "report",
]
