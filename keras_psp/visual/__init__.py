"""Pictures of masks: class colours, overlays and comparisons."""

from keras_psp.visual.palette import default_palette
from keras_psp.visual.picture import colorize, comparison, overlay

__all__ = ["colorize", "comparison", "default_palette", "overlay"]
