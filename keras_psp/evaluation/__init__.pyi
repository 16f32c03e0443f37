from .boundary import BoundaryIoU
from .calibration import Calibration, CalibrationErrors, calibrate
from .cityscapes import CityscapesMeasures
from .errors import ErrorGroups
from .measures import Measures, class_table, print_class_table
from .receptive import (
    ReceptiveField,
    receptive_field,
    receptive_field_diagram,
    theoretical_size,
)
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
    "ReceptiveField",
    "Reliability",
    "calibrate",
    "class_table",
    "evaluate",
    "print_class_table",
    "receptive_field",
    "receptive_field_diagram",
    "reliability_diagram",
    "theoretical_size",
]
