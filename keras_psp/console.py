"""Where progress is told."""

import sys
import time
from importlib.util import find_spec


def bar_console():
    """stderr, as a `rich.console.Console`; in a notebook without ipywidgets as plain text.

    rich draws bars in notebooks by ipywidgets alone, and warns with each bar where they are not
    installed.
    """
    from rich.console import Console

    return Console(stderr=True, force_jupyter=None if find_spec("ipywidgets") else False)


class Lines:
    """A line on stderr now and then, where rich draws a bar at the end only: logs, plain notebooks.

    Args:
        console: of the bar.
    """

    EVERY = 30.0  # seconds

    def __init__(self, console):
        self._wanted = not (console.is_terminal or console.is_jupyter)
        self._spoke = time.monotonic()

    def say(self, text: str) -> None:
        """Print it, if the last line was long enough ago."""
        if self._wanted and time.monotonic() - self._spoke > self.EVERY:
            self._spoke = time.monotonic()
            print(text, file=sys.stderr, flush=True)
