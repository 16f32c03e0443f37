"""Prints the help of every keras-psp command as JSON: {"": ..., "train": ...}.

    python docs/tools/command_line.py

The parser is taken from the source without Keras, which takes seconds to import and may not be
installed where documentation is built.
"""

import ast
import contextlib
import io
import json
import os
import re
import sys
import types
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "keras_psp"


def without_keras():
    """Let the parser's modules be imported without what their packages import."""
    for name in ("", ".evaluation", ".layers", ".training"):
        package = types.ModuleType(f"keras_psp{name}")
        package.__path__ = [str(PACKAGE / name.removeprefix("."))]
        sys.modules[package.__name__] = package
    # The recipes ask for the depths alone.
    resnet = types.ModuleType("keras_psp.layers.resnet")
    resnet.BLOCKS = _constant(PACKAGE / "layers" / "resnet.py", "BLOCKS")
    sys.modules[resnet.__name__] = resnet


def _constant(path, name):
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"{path} has no {name}.")


def helped(main, *command):
    """What the command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return out.getvalue()


def main():
    """Print all of it."""
    os.environ |= {"COLUMNS": "88", "NO_COLOR": "1"}
    without_keras()
    from keras_psp import cli

    helps = {"": helped(cli.main)}
    for name in re.search(r"\{(.*?)\}", helps[""])[1].split(","):
        helps[name] = helped(cli.main, name)
    print(json.dumps(helps))


if __name__ == "__main__":
    main()
