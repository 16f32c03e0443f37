"""Long work on many items: in threads, with a bar on stderr."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keras_psp.console import Lines, bar_console, draws_bars


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
