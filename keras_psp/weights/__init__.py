"""Trained weights: of the published PSPNets, of ImageNet, from any project's files."""

from keras_psp.weights.conversion import convert
from keras_psp.weights.files import WeightsFileError, read_checkpoint
from keras_psp.weights.presets import Preset, list_presets

__all__ = ["Preset", "WeightsFileError", "convert", "list_presets", "read_checkpoint"]
