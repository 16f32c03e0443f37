"""Images of any size to class maps: one image, folders, videos and benchmark servers."""

from keras_psp.prediction.files import predict_files
from keras_psp.prediction.images import Predictions, predict
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.protocol import SIX_SCALES, Protocol
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
    "SIX_SCALES",
    "ADE20KSubmission",
    "CityscapesSubmission",
    "Prediction",
    "Predictions",
    "Protocol",
    "Segmenter",
    "Submission",
    "VOCSubmission",
    "open_segmenter",
    "predict",
    "predict_files",
    "predict_video",
    "submit",
]
