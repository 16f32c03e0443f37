"""Threads and a progress bar for work on many items."""

import collections
import contextlib
import contextvars
import datetime
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

_hidden = contextvars.ContextVar("_hidden", default=False)


@contextlib.contextmanager
def hidden_bars(hidden: bool = True) -> Iterator[None]:
    """Hides all bars of this thread, also those that have no argument for it."""
    token = _hidden.set(hidden)
    try:
        yield
    finally:
        _hidden.reset(token)


class Bar:
    """Progress bar on stderr; logs, and notebooks without ipywidgets, get a line every 30 seconds.

    Example:
        with Bar("Reading", total=len(paths)) as bar:
            for number, path in enumerate(paths, 1):
                read(path)
                bar.update(number)
    """

    SECONDS_PER_LINE = 30.0

    def __init__(
        self, title: str, total: int | None = None, *, completed: int = 0, shown: bool = True
    ):
        from rich import progress
        from rich.console import Console

        shown = shown and not _hidden.get()
        # In a notebook without ipywidgets, rich would print a warning for each bar.
        force = None if find_spec("ipywidgets") else False
        self._console = Console(stderr=True, force_jupyter=force, quiet=not shown)
        self._moves = self._console.is_terminal or self._console.is_jupyter
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not (shown and self._moves),
            speed_estimate_period=3600,
        )
        self._id = self._progress.add_task(title, total=total, completed=completed, note="")
        self._task = self._progress.tasks[0]
        self._printed = time.monotonic(), completed

    def __enter__(self) -> "Bar":
        if self._moves:  # rich 13 prints an empty line at the end of a disabled one
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._moves:
            self._progress.stop()
        elif self._printed[1] != self._task.completed:
            self.print(self._line())

    def update(self, completed: int, note: str = "", *, title: str | None = None) -> None:
        """Shows how many items are finished, including earlier ones, and a note."""
        self._progress.update(self._id, completed=completed, note=note, description=title)
        if not self._moves and time.monotonic() - self._printed[0] > self.SECONDS_PER_LINE:
            self.print(self._line())

    def print(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._printed = time.monotonic(), int(self._task.completed)
        self._console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @property
    def rate(self) -> float:
        """Number of items per second since the first update."""
        return self._task.speed or 0.0

    def _line(self):
        task = self._task
        total = "" if task.total is None else f" of {task.total}"
        left = f"{datetime.timedelta(seconds=task.time_remaining or 0)} left"
        parts = [f"{task.description}: {task.completed}{total}", task.fields["note"]]
        return ", ".join(filter(None, [*parts, left if task.time_remaining else ""]))


def with_bar(items: Iterable, title: str, total: int | None, *, shown: bool = True) -> Iterator:
    """Yields the items and shows a progress bar on stderr, see `Bar`."""
    with Bar(title, total, shown=shown) as bar:
        for number, item in enumerate(items, 1):
            yield item
            bar.update(number)


def in_threads(
    function: Callable[[Any], Any],
    items: Sequence,
    title: str,
    *,
    progress: bool = True,
    threads: int | None = None,
) -> Iterator:
    """Applies a function to every item in threads, with a progress bar; see `ahead`."""
    return with_bar(ahead(function, items, threads=threads), title, len(items), shown=progress)


def ahead(
    function: Callable[[Any], Any], items: Iterable, *, threads: int | None = None
) -> Iterator:
    """Applies a function to every item in threads, and yields the results in order.

    At most two items per thread are read ahead, in the thread that consumes the results.
    """
    threads = threads or min(8, 2 * (os.cpu_count() or 1))
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
