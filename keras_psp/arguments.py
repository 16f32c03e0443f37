"""Checks of arguments."""

import operator
from typing import Any


def checked_integer(name: str, value: Any, *, least: int) -> int:
    """Returns the value as an int.

    Raises:
        ValueError: If it isn't an integer or is less than `least`.
    """
    try:
        checked = operator.index(value)
    except TypeError:
        checked = least - 1
    if checked < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be an integer >= {least}.")
    return checked
