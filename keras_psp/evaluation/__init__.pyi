from .boundary import BoundaryIoU
from .cityscapes import CityscapesMeasures
from .errors import ErrorGroups
from .measures import Measures, class_table, print_class_table
from .result import Evaluation
from .run import evaluate

__all__ = [
    "BoundaryIoU",
    "CityscapesMeasures",
    "ErrorGroups",
    "Evaluation",
    "Measures",
    "class_table",
    "evaluate",
    "print_class_table",
]
