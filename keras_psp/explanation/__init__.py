"""Why a network calls a pixel what it does: the parts of its logits, and the pyramid's share."""

import lazy_loader

# The names are in __init__.pyi. Each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
