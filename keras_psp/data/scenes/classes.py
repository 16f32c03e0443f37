"""Classes of the generated scenes, and their colors."""

import numpy as np

from keras_psp.labels import labels

CLASS_NAMES = labels("scenes").class_names

SKY, WATER, ROAD, GROUND, GRASS, TREE, HILL = range(7)
SKYLINE, PERSON, POLE, BOAT, CAR, BUILDING, SKYSCRAPER = range(7, len(CLASS_NAMES))

CONTEXT_CLASSES = ("boat", "car", "building", "skyscraper")
"""Classes, in pairs, that only the rest of the image can tell apart."""

IGNORE_CLASS = 255

# No two colors are closer than 66 (of at most 442) in RGB, also as seen with red-green
# color blindness (deuteranopia, simulated by Machado et al. 2009).
PALETTE = np.array(labels("scenes").palette, np.uint8)
