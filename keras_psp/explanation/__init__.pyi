from .reference import LevelMeans, level_means
from .result import Context, Explanation, PixelParts
from .run import explain
from .summary import ContextSummary, context_summary

__all__ = [
    "Context",
    "ContextSummary",
    "Explanation",
    "LevelMeans",
    "PixelParts",
    "context_summary",
    "explain",
    "level_means",
]
