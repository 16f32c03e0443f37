"""Data sets in their published folder layouts, one module per family."""
