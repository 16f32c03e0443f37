"""Trained weights: published PSPNets, ImageNet backbones, and checkpoints of other projects."""

from keras_psp.weights.conversion import convert
from keras_psp.weights.files import WeightsFileError, read_checkpoint
from keras_psp.weights.presets import Preset, list_presets

__all__ = ["Preset", "WeightsFileError", "convert", "list_presets", "read_checkpoint"]
