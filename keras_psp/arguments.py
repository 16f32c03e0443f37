"""Checks of arguments."""

import operator
from typing import Any


def checked_integer(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """Returns the value as an int.

    Raises:
        ValueError: If it isn't an integer from `least` to `most`.
    """
    try:
        checked = operator.index(value)
    except TypeError:
        checked = least - 1
    if checked < least or isinstance(value, bool) or (most is not None and checked > most):
        allowed = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}; it must be an integer {allowed}.")
    return checked
