"""Completion of the command in shells."""

import argparse
from pathlib import Path

SHELLS = ("bash", "zsh", "tcsh")


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Returns the script by which a shell completes options, their choices and files.

    Raises:
        ImportError: if shtab isn't installed.
    """
    from keras_psp.data import list_datasets
    from keras_psp.training.recipes import RECIPES
    from keras_psp.weights.presets import all_presets

    try:
        import shtab
    except ImportError:
        raise ImportError("completion needs shtab; run python -m pip install shtab.") from None
    names = {
        "recipe": list(RECIPES),
        "dataset": list(list_datasets()),
        "presets": list(all_presets()),
    }
    for command in [parser, *_subparsers(parser)]:
        for action in command._actions:
            if not action.option_strings and action.dest in names:
                action.choices = names[action.dest]
            if action.type is Path or action.dest in ("data", "images", "model", "output"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _subparsers(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()
