"""Checks of arguments."""

import contextlib
import operator
from collections.abc import Callable
from typing import Any


def checked_integer(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """Returns the value as an int; raises ValueError unless it is from `least` to `most`."""
    try:
        checked = operator.index(value)
    except TypeError:
        checked = least - 1
    if checked < least or isinstance(value, bool) or (most is not None and checked > most):
        allowed = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}; it must be an integer {allowed}.")
    return checked


def checked_pair(
    name: str, given: Any, pair: Any, convert: Callable, valid: Callable[..., bool], needed: str
) -> tuple:
    """Returns the two converted numbers of a pair; raises ValueError unless they are `valid`."""
    with contextlib.suppress(TypeError, ValueError):
        first, second = map(convert, pair)
        if valid(first, second):
            return first, second
    raise ValueError(f"{name} is {given!r}; it must be {needed}.")
