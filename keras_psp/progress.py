"""Long work on many items: in threads, with a bar on stderr."""

import collections
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any


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


def in_threads(function, items, title, *, progress=True, threads=None):
    """Apply the function to each item, results in order.

    Args:
        function: of one item. Threads pay where it leaves Python's lock, as decoding
            pictures and large numpy operations do.
        items: a sequence.
        title: what the bar says.
        progress: whether there is a bar.
        threads: default two per core, at most 8.
    """
    pool = ThreadPoolExecutor(threads or _threads())
    try:
        results = pool.map(function, items)
        if progress:
            results = with_bar(results, title, len(items))
        yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    function: Callable[[Any], Any], items: Iterable, *, threads: int | None = None
) -> Iterator:
    """Apply the function to each item in threads, results in order, a few before they are due.

    Unlike `in_threads` it takes items and holds results of any number in bounded memory: no
    more than two a thread are under way or wait.

    Args:
        function: of one item; see `in_threads`.
        items: taken in the thread that takes the results.
        threads: default two per core, at most 8.
    """
    threads = threads or _threads()
    pool = ThreadPoolExecutor(threads)
    waiting: collections.deque = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def with_bar(items: Iterable, title: str, total: int | None) -> Iterator:
    """The items, with a bar on stderr that tells how many are done and the time left."""
    from rich.markup import escape
    from rich.progress import track

    console = bar_console()
    if not draws_bars(console):
        items = _told(items, title, total, Lines(console))
    yield from track(items, escape(title), total, console=console)


def _told(items, title, total, lines):
    for number, item in enumerate(items, 1):
        yield item
        lines.say(f"{title}: {number}" + ("" if total is None else f" of {total}"))


def _threads():
    return min(8, 2 * (os.cpu_count() or 1))
