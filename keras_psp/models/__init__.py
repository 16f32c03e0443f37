"""Models."""

from keras_psp.models.pspnet import PSPNet

__all__ = ["PSPNet"]
