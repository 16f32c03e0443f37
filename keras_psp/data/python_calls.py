"""Python functions inside of tf.data pipelines, and the end of the interpreter."""

import atexit
import functools
import gc
import sys
import threading
import time
from collections.abc import Callable

_PATIENCE = 10.0  # seconds, for one that takes long, such as reading from a slow disk
_QUIET = 0.05  # seconds without a call, after which a pipeline's buffers are full

_lock = threading.Lock()
_ending = threading.Event()
_running = 0
_begun = 0


def until_exit(function: Callable) -> Callable:
    """A function for `tf.numpy_function` or `tf.py_function` that lets the process end.

    A pipeline runs ahead in threads of its own. If one is still alive when the interpreter
    ends, as it is after an error or a Ctrl-C within `fit`, TensorFlow waits for its Python
    calls, which can't run any more: the process hangs for ever. So before that the calls under
    way are waited for, and later ones raise at once.
    """
    _at_exit()

    @functools.wraps(function)
    def call(*arguments):
        global _running, _begun
        with _lock:
            _begun += 1
            if _ending.is_set():
                raise RuntimeError("the interpreter is ending")
            _running += 1
        try:
            return function(*arguments)
        finally:
            with _lock:
                _running -= 1

    return call


@functools.cache
def _at_exit():
    # Handlers run last first: this one before TensorFlow's own.
    atexit.register(_come_to_rest)


def _come_to_rest():
    _ending.set()
    # The traceback of what ended the program holds the pipelines of its frames.
    sys.last_value = sys.last_traceback = None
    if hasattr(sys, "last_exc"):
        sys.last_exc = None
    gc.collect()
    end = time.monotonic() + _PATIENCE
    seen = -1
    while time.monotonic() < end:
        with _lock:
            quiet = not _running and _begun == seen
            seen = _begun
        if quiet:
            break
        time.sleep(_QUIET)
