"""Images of any size to class maps: one image, folders, videos and benchmark servers."""

from keras_psp.prediction.files import predict_files
from keras_psp.prediction.images import Predictions, predict
from keras_psp.prediction.result import Prediction
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.prediction.server import submit
from keras_psp.prediction.submissions import (
    ADE20KSubmission,
    CityscapesSubmission,
    Submission,
    VOCSubmission,
)
from keras_psp.prediction.video import predict_video

__all__ = [
    "ADE20KSubmission",
    "CityscapesSubmission",
    "Prediction",
    "Predictions",
    "Segmenter",
    "Submission",
    "VOCSubmission",
    "predict",
    "predict_files",
    "predict_video",
    "submit",
]
