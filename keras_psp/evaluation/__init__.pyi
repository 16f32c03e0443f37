from .boundary import BoundaryIoU
from .calibration import Calibration, CalibrationErrors, calibrate
from .cityscapes import CityscapesMeasures
from .errors import ErrorGroups
from .measures import Measures, class_table, print_class_table
from .reliability import Reliability, reliability_diagram
from .result import Evaluation
from .run import evaluate

__all__ = [
    "BoundaryIoU",
    "Calibration",
    "CalibrationErrors",
    "CityscapesMeasures",
    "ErrorGroups",
    "Evaluation",
    "Measures",
    "Reliability",
    "calibrate",
    "class_table",
    "evaluate",
    "print_class_table",
    "reliability_diagram",
]
