"""Where progress is told."""

import time
from importlib.util import find_spec


def bar_console():
    """stderr, as a `rich.console.Console`; in a notebook without ipywidgets as plain text.

    rich draws bars in notebooks by ipywidgets alone, and warns with each bar where they are not
    installed.
    """
    from rich.console import Console

    return Console(stderr=True, force_jupyter=None if find_spec("ipywidgets") else False)


def draws_bars(console) -> bool:
    """Whether rich moves a bar there: in logs and plain notebooks it draws one at the end."""
    return console.is_terminal or console.is_jupyter


class Lines:
    """Lines now and then, for where no bar moves.

    Args:
        console: see `bar_console`.
    """

    EVERY = 30.0  # seconds

    def __init__(self, console):
        self._console = console
        self._spoke = time.monotonic()

    def say(self, text: str, *, at_once: bool = False) -> None:
        """Print it, if the last line was long enough ago or it can't wait."""
        if at_once or time.monotonic() - self._spoke > self.EVERY:
            self._spoke = time.monotonic()
            self._console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)
