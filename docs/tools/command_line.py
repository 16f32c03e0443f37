"""Prints the help of every keras-psp command as JSON: {"": ..., "train": ...}.

    python docs/tools/command_line.py

Imports the parser without Keras, which takes seconds and may not be installed where the
documentation is built.
"""

import ast
import contextlib
import io
import json
import os
import sys
import types
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "keras_psp"


def without_keras():
    """Lets the parser's modules be imported without what their packages import."""
    for init in PACKAGE.rglob("__init__.py"):
        folder = init.parent.relative_to(PACKAGE.parent)
        if folder.parts[1:2] != ("cli",):
            package = types.ModuleType(".".join(folder.parts))
            package.__path__ = [str(init.parent)]
            sys.modules[package.__name__] = package
    # The recipes need the depths only.
    resnet = types.ModuleType("keras_psp.layers.resnet")
    resnet.BLOCKS = _constant(PACKAGE / "layers" / "resnet.py", "BLOCKS")
    sys.modules[resnet.__name__] = resnet


def _constant(path, name):
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"{path} has no {name}.")


def helped(main, *command):
    """Returns the help of a command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return out.getvalue()


def main():
    """Prints the help of all commands."""
    os.environ |= {"COLUMNS": "88", "NO_COLOR": "1"}
    without_keras()
    from keras_psp import cli

    helps = {"": helped(cli.main)}
    for name in cli.SUBCOMMANDS:
        helps[name] = helped(cli.main, name)
    print(json.dumps(helps))


if __name__ == "__main__":
    main()
