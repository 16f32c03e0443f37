"""Long work on many items: in threads, with a bar on stderr."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor


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
    pool = ThreadPoolExecutor(threads or min(8, 2 * (os.cpu_count() or 1)))
    try:
        results = pool.map(function, items)
        if progress:
            from rich.console import Console
            from rich.progress import track

            results = track(results, title, len(items), console=Console(stderr=True))
        yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(function: Callable, items: Iterable, *, threads: int = 1) -> Iterator:
    """`function` of each item in order, in threads, at most one a thread ahead of the reader."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
