"""The form of the command's help."""

import argparse
from pathlib import Path
from typing import Any

_VALUES: dict[Any, str] = {int: "N", float: "X", Path: "PATH"}


class HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions but keeps the lines of examples."""

    def _fill_text(self, text, width, indent):
        examples = text.startswith("examples:")
        return text if examples else super()._fill_text(text, width, indent)


def complete_help(command: argparse.ArgumentParser) -> None:
    """Shows the types of values, and only what is required in the line of the usage."""
    command.formatter_class = HelpFormatter
    required = ["%(prog)s"]
    for action in command._actions:
        if action.metavar is None and action.choices is None and action.nargs != 0:
            action.metavar = _VALUES.get(action.type)
        value = action.metavar or action.dest.upper()
        if not action.option_strings:
            required.append(f"{value} ..." if action.nargs == "+" else str(value))
        elif action.required:
            required.append(f"{action.option_strings[-1]} {value}")
    command.usage = " ".join([*required, "[options]"])
