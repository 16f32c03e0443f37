"""Checks of arguments that the data sources share."""

import operator


def checked_integer(name, value, *, least):
    """The value as an int, or a ValueError that names it."""
    try:
        checked = operator.index(value)
    except TypeError:
        checked = least - 1
    if checked < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be an integer >= {least}.")
    return checked
