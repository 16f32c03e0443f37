"""Silences TensorFlow's log, which its environment variables alone can't do.

TensorFlow logs a dozen lines when it is imported, before it reads TF_CPP_MIN_LOG_LEVEL, and
more while it runs. None of them is about what a user typed; its errors are exceptions.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
"""TensorFlow's own variable: 0 logs all, 1 no information, 2 no warnings, 3 no errors."""

# Lines of absl, LiteRT and TFLite's converter.
_LINE = re.compile(
    rb"WARNING: All log messages before absl|fully_quantize: |([IWEF])(?:\d{4}|NFO:|ARNING:|RROR:) "
)
# The second lines of messages.
_REST = re.compile(rb"To enable the following instructions|Skipping registering GPU devices")
_SEVERITIES = b"IWEF"


def quiet_tensorflow() -> None:
    """Hides what TensorFlow logs, including at its import, unless TF_CPP_MIN_LOG_LEVEL is 0.

    Sets this variable to 3 if it isn't set. Does nothing if TensorFlow is imported already.
    """
    if "tensorflow" not in sys.modules:
        level = os.environ.setdefault(LEVEL, "3")
        if level != "0" and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Filters stderr while TensorFlow is imported, by any package."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def quiet(module):
                with filtered_stderr():
                    execute(module)
                # In notebooks it would print information, e.g. where assets were written.
                module.get_logger().setLevel("WARNING")

            spec.loader.exec_module = quiet  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Holds back what is written to stderr, also by native code, and drops the log's lines."""
    if os.environ.get(LEVEL, "0") == "0":
        yield
        return
    try:
        own = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    level = "0"  # everything, if the import fails
    with tempfile.TemporaryFile() as held:
        try:
            os.dup2(held.fileno(), 2)
            yield
            level = os.environ.get(LEVEL, "0")
        finally:
            os.dup2(own, 2)
            held.seek(0)
            os.write(2, kept_lines(held.read(), level))
            os.close(own)


def kept_lines(log: bytes, level: str) -> bytes:
    """Returns what was written to stderr without the lines of a log below a level."""
    least = int(level) if level.isdigit() else 0
    lines, keep = [], True
    for line in log.splitlines(keepends=True):
        if match := _LINE.match(line):
            keep = _SEVERITIES.index(match[1] or b"I") >= least
        elif not _REST.match(line):
            keep = True
        if keep:
            lines.append(line)
    return b"".join(lines)
