"""Damaged copies of files, and what a restart makes of them."""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

CONTINUED, NAMED = "continued", "named"
"""What a restart may do: give the same result, or name the file in one sentence."""


def damages(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yields contents with one changed bit, or cut off at a random place, in turn."""
    generator = np.random.default_rng(seed)
    for number in range(count if data else 0):
        place = int(generator.integers(len(data)))
        if number % 2:
            yield data[:place]
        else:
            bit = 1 << int(generator.integers(8))
            yield data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def outcome(
    path: Path, restart: Callable[[], dict[str, Any]], expected: list[dict[str, Any]]
) -> str:
    """Returns `CONTINUED`, `NAMED`, or what is wrong, for a restart with a damaged file.

    A restart continues if it returns one of the expected results, and names the file if it raises
    one sentence about it, or prints one and continues. A result is a dict; a file that is named may
    stay as it is, so that its own item doesn't count.
    """
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            result = restart()
        except (ValueError, OSError) as error:
            text = str(error)
            is_sentence = "\n" not in text and path.name in text
            return NAMED if is_sentence else f"{type(error).__name__}: {text}"
        except Exception as error:
            return f"traceback: {type(error).__name__}: {error}"
    is_named = path.name in err.getvalue()
    if is_named:
        result, *expected = ({**each, path.name: None} for each in (result, *expected))
    if result in expected:
        return NAMED if is_named else CONTINUED
    return "another result"
