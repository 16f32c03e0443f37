"""Trained weights: published PSPNets, ImageNet backbones, and checkpoints of other projects."""

import lazy_loader

# The names are in __init__.pyi. Each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
