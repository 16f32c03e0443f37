"""Learning-rate schedules."""

from keras_psp.schedules.poly import PolyLearningRate

__all__ = ["PolyLearningRate"]
