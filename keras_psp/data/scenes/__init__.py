"""Generated scenes with boats and cars that only the context, water or road, tells apart."""

from keras_psp.data.scenes.classes import CLASS_NAMES, CONTEXT_CLASSES, IGNORE_CLASS, PALETTE
from keras_psp.data.scenes.generated import GeneratedScenes, scene

__all__ = ["CLASS_NAMES", "CONTEXT_CLASSES", "IGNORE_CLASS", "PALETTE", "GeneratedScenes", "scene"]
