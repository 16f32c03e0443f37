"""Judging a model's predictions."""

from keras_psp.evaluation.boundary import BoundaryIoU
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.errors import ErrorGroups
from keras_psp.evaluation.files import predict_files
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.prediction import Prediction, Predictions, predict
from keras_psp.evaluation.result import Evaluation
from keras_psp.evaluation.run import evaluate
from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.evaluation.submissions import (
    ADE20KSubmission,
    CityscapesSubmission,
    Submission,
    VOCSubmission,
)
from keras_psp.evaluation.submit import submit
from keras_psp.evaluation.table import class_table, report
from keras_psp.evaluation.video import predict_video

__all__ = [
    "ADE20KSubmission",
    "BoundaryIoU",
    "CityscapesMeasures",
    "CityscapesSubmission",
    "ErrorGroups",
    "Evaluation",
    "Measures",
    "Prediction",
    "Predictions",
    "Segmenter",
    "Submission",
    "VOCSubmission",
    "class_table",
    "evaluate",
    "predict",
    "predict_files",
    "predict_video",
    "report",
    "submit",
]
