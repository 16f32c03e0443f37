"""Predicts class maps of images of any size, folders, rasters, videos and test splits."""

import lazy_loader

# The names are in __init__.pyi. Each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
