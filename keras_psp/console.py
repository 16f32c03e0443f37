"""Where progress bars go."""

from importlib.util import find_spec


def bar_console():
    """stderr, as a `rich.console.Console`; in a notebook without ipywidgets as plain text.

    rich draws bars in notebooks by ipywidgets alone, and warns with each bar where they are not
    installed.
    """
    from rich.console import Console

    return Console(stderr=True, force_jupyter=None if find_spec("ipywidgets") else False)
