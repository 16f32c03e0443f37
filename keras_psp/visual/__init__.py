"""Pictures of masks: class colours, overlays, comparisons and what training sees."""

from keras_psp.palette import default_palette
from keras_psp.visual.picture import colorize, comparison, overlay, overlay_with_legend

__all__ = [
    "colorize",
    "comparison",
    "default_palette",
    "overlay",
    "overlay_with_legend",
]
