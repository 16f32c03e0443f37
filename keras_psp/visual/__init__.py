"""Pictures of masks: class colours, overlays, comparisons and what training sees."""

from keras_psp.visual.palette import default_palette
from keras_psp.visual.picture import colorize, comparison, overlay, overlay_with_legend
from keras_psp.visual.samples import augmented_samples

__all__ = [
    "augmented_samples",
    "colorize",
    "comparison",
    "default_palette",
    "overlay",
    "overlay_with_legend",
]
