"""Prediction and evaluation of whole image sets, on one machine or many, with Apache Beam."""

try:
    import apache_beam  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'bulk prediction needs Apache Beam ({error}); pip install "keras-psp[beam]".'
    ) from None

from keras_psp.beam.handler import Failure, SegmentationHandler
from keras_psp.beam.job import JobError, Outcome, predict_many
from keras_psp.beam.sources import ImageFiles, ImageList, TFRecords

__all__ = [
    "Failure",
    "ImageFiles",
    "ImageList",
    "JobError",
    "Outcome",
    "SegmentationHandler",
    "TFRecords",
    "predict_many",
]
