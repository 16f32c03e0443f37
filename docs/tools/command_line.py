"""Prints the help of every keras-psp command as JSON: {"": ..., "train": ...}.

    python docs/tools/command_line.py

The help is formatted without importing Keras, which takes seconds.
"""

import contextlib
import io
import json
import os
import sys


def helped(main, *command):
    """Returns the help of a command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return out.getvalue()


def main():
    """Prints the help of all commands."""
    os.environ |= {"COLUMNS": "88", "NO_COLOR": "1"}
    sys.argv[0] = "keras-psp"  # by its name, the package knows that it needs no Keras
    from keras_psp import cli

    helps = {name: helped(cli.main, name) for name in cli.SUBCOMMANDS}
    print(json.dumps({"": helped(cli.main), **helps}))


if __name__ == "__main__":
    main()
