"""Checks of arguments."""

import contextlib
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LARGEST_SIDE = 2**14
"""Longest side in pixels of an image, crop or view, so that a typo doesn't fill the memory."""

_BOOLS = bool | np.bool_


def checked_integer(
    name: str, value: Any, *, least: int | None = None, most: int | None = None
) -> int:
    """Returns the value as an int; raises ValueError unless it is one within the bounds."""
    with contextlib.suppress(TypeError):
        number = operator.index(value)
        low, high = least is None or least <= number, most is None or number <= most
        if low and high and not isinstance(value, _BOOLS):
            return number
    allowed = "" if least is None else f" >= {least}"
    if least is not None and most is not None:
        allowed = f" from {least} to {most}"
    raise ValueError(f"{name} is {value!r}; it must be an integer{allowed}.")


def checked_count(name: str, value: Any, *words: Any) -> Any:
    """Returns the value as an int, or the word that it is equal to, e.g. "auto" or None.

    Raises ValueError unless it is one of the words or an integer of at least 1.
    """
    if value is None or isinstance(value, str):
        with contextlib.suppress(ValueError):
            return checked_choice(name, value, words)
    else:
        with contextlib.suppress(ValueError):
            return checked_integer(name, value, least=1)
    known = " or ".join(map(repr, words))
    raise ValueError(f"{name} is {value!r}; it must be an integer >= 1, or {known}.")


def checked_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """Returns the value as a float; raises ValueError unless it is finite and within the bounds."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        number = float(value)
        finite = math.isfinite(number) and not isinstance(value, _BOOLS | str | bytes)
        if finite and least <= number <= most and above < number < below:
            return number
    bounds = [(">=", least), (">", above), ("<=", most), ("<", below)]
    allowed = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))
    raise ValueError(f"{name} is {value!r}; it must be a finite number{allowed and ' ' + allowed}.")


def checked_flag(name: str, value: Any) -> bool:
    """Returns the value as a bool; raises ValueError unless it is True or False."""
    if isinstance(value, _BOOLS):
        return bool(value)
    raise ValueError(f"{name} is {value!r}; it must be True or False.")


def checked_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Returns the choice that the value is equal to; raises ValueError if there is none."""
    if value is None or isinstance(value, str | int | np.integer):
        for choice in choices:
            # True is equal to 1.
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
    raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}.")


def checked_string(name: str, value: Any) -> str:
    """Returns the value as a str; raises ValueError unless it is one."""
    if isinstance(value, str):
        return str(value)
    raise ValueError(f"{name} is {value!r}; it must be a string.")


def checked_tuple(
    name: str, values: Any, check: Callable[[str, Any], Any], *, length: int | None = None
) -> tuple:
    """Returns the values of a sequence of the given length, each after `check(name, value)`."""
    items = None
    if not isinstance(values, str | bytes | dict | set):
        with contextlib.suppress(TypeError):
            items = tuple(values)
    if items is not None and length in (None, len(items)):
        return tuple(check(f"{name}[{index}]", item) for index, item in enumerate(items))
    count = "" if length is None else f"{length} "
    raise ValueError(f"{name} is {values!r}; it must be a sequence of {count}values.")


def checked_pair(
    name: str, given: Any, pair: Any, convert: Callable, valid: Callable[..., bool], needed: str
) -> tuple:
    """Returns the two converted numbers of a pair; raises ValueError unless they are `valid`."""
    with contextlib.suppress(TypeError, ValueError):
        first, second = map(convert, pair)
        if valid(first, second):
            return first, second
    raise ValueError(f"{name} is {given!r}; it must be {needed}.")


def checked_class_weights(weights: Any) -> list[float] | None:
    """Returns one non-negative factor per class as a list, or None.

    Raises:
        ValueError: if they are invalid, or all of them are 0.
    """
    if weights is None:
        return None
    numbers = checked_tuple("class_weights", weights, lambda *item: checked_number(*item, least=0))
    if not any(numbers):
        raise ValueError(f"class_weights is {weights!r}; not all of them may be 0.")
    return list(numbers)


def checked_mining(pixels: Any, threshold: Any) -> tuple[int | None, float | None]:
    """Returns `hard_pixels` and `hard_threshold`, the options of hard example mining.

    Raises:
        ValueError: if one is out of range, or the first is missing.
    """
    if pixels is not None:
        pixels = checked_integer("hard_pixels", pixels, least=1)
    if threshold is None:
        return pixels, None
    if pixels is None:
        raise ValueError(
            f"hard_threshold={threshold!r} needs hard_pixels, the minimum number of pixels to keep "
            "per image; mmsegmentation's default is 100_000."
        )
    return pixels, checked_number("hard_threshold", threshold, above=0, below=1)


def checked_smoothing(share: Any, pixels: Any) -> float:
    """Returns `label_smoothing`, a share from 0 to less than 1, which excludes `hard_pixels`."""
    share = checked_number("label_smoothing", share, least=0, below=1)
    if share and pixels is not None:
        raise ValueError(
            f"label_smoothing={share!r} can't be combined with hard_pixels={pixels!r}, since "
            "smoothing makes the loss of the easiest pixels large; omit one of them."
        )
    return share


LOSSES = ("crossentropy", "boundary", "focal", "dice", "tversky", "lovasz")
"""Names of losses, see `keras_psp.losses.get`."""


def parsed_loss(
    name: str, text: Any, *, hard_pixels: Any = None, label_smoothing: Any = 0.0
) -> list[tuple[float, str]]:
    """Returns the factors and names of a sum of losses, e.g. "0.5*dice+crossentropy".

    Raises:
        ValueError: if a name is unknown or repeated, a factor is not positive, or an option of
            the cross-entropies is given without one of them.
    """
    terms = []
    for term in checked_string(name, text).split("+"):
        factor, star, loss = term.rpartition("*")
        if loss.strip() not in LOSSES:
            raise ValueError(
                f"{name} is {text!r}: the loss {loss.strip()!r} is unknown; choose from "
                f"{', '.join(LOSSES)}, or add some of them: 0.5*dice+crossentropy."
            )
        try:
            weight = checked_number("the factor", float(factor) if star else 1.0, above=0)
        except ValueError:
            raise ValueError(
                f"{name} is {text!r}: the factor {factor.strip()!r} of {loss.strip()} must be a "
                "positive number."
            ) from None
        terms.append((weight, loss.strip()))
    names = [loss for _, loss in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"{name} is {text!r}; give each loss once.")
    options = {"hard_pixels": hard_pixels, "label_smoothing": label_smoothing}
    for option, value in options.items():
        if value not in (None, 0) and not {"crossentropy", "boundary"} & set(names):
            raise ValueError(
                f"{option}={value!r} is an option of crossentropy and boundary only; omit it for "
                f"{name}={text!r}, or add one of them."
            )
    return terms
