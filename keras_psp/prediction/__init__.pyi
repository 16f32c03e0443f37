from .confidence import Confidence
from .files import predict_files
from .images import Predictions, predict
from .opening import open_segmenter
from .protocol import SIX_SCALES, Protocol
from .raster import RasterSummary, predict_raster
from .result import Prediction
from .segmenter import Segmenter
from .server import submit
from .submissions import ADE20KSubmission, CityscapesSubmission, Submission, VOCSubmission
from .video import predict_video

__all__ = [
    "SIX_SCALES",
    "ADE20KSubmission",
    "CityscapesSubmission",
    "Confidence",
    "Prediction",
    "Predictions",
    "Protocol",
    "RasterSummary",
    "Segmenter",
    "Submission",
    "VOCSubmission",
    "open_segmenter",
    "predict",
    "predict_files",
    "predict_raster",
    "predict_video",
    "submit",
]
