"""TODO."""

from typing import TYPE_CHECKING

import numpy as np

from keras_psp.labels import labels

if TYPE_CHECKING:
    pass


CLASS_NAMES = labels("scenes").class_names


(
    SKY,
    WATER,
    ROAD,
    GROUND,
    GRASS,
    TREE,
    HILL,
    SKYLINE,
    PERSON,
    POLE,
    BOAT,
    CAR,
    BUILDING,
    SKYSCRAPER,
) = range(len(CLASS_NAMES))


CONTEXT_CLASSES = ("boat", "car", "building", "skyscraper")
"""Classes that only the rest of the picture can tell apart, in pairs."""


IGNORE_CLASS = 255


# No two colours are closer than 66 of 442 in RGB, also as simulated for red-green
# colour blindness (deuteranopia, Machado et al. 2009).
PALETTE = np.array(labels("scenes").palette, np.uint8)
