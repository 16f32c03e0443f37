"""Draws masks: class colors, overlays and comparisons."""

from keras_psp.palette import default_palette
from keras_psp.visual.overlays import colorize, comparison, overlay, overlay_with_legend

__all__ = ["colorize", "comparison", "default_palette", "overlay", "overlay_with_legend"]
