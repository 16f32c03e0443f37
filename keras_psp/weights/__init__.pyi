from .conversion import convert
from .files import WeightsFileError, read_checkpoint
from .presets import Preset, list_presets

__all__ = ["Preset", "WeightsFileError", "convert", "list_presets", "read_checkpoint"]
