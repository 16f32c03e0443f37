"""Learning-rate schedules."""

from keras_psp.schedules.poly import PolyLearningRate, training_steps

__all__ = ["PolyLearningRate", "training_steps"]
