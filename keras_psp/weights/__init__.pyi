from .conversion import convert
from .files import WeightsFileError, read_checkpoint
from .hubs.uploading import upload_preset
from .presets import Preset, list_presets

__all__ = [
    "Preset",
    "WeightsFileError",
    "convert",
    "list_presets",
    "read_checkpoint",
    "upload_preset",
]
