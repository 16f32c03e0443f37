"""Python functions in tf.data pipelines, which must not keep the interpreter from exiting."""

import atexit
import collections
import contextlib
import functools
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from keras_psp.data.devices import leave_gpus_to_the_backend

if TYPE_CHECKING:
    import tensorflow as tf

_PATIENCE = 10.0  # seconds for a call that takes long, such as reading from a slow disk
_QUIET = 0.05  # seconds without a call, after which a pipeline's buffers are full

_failures: collections.deque = collections.deque(maxlen=8)
_lock = threading.Lock()
_exiting = threading.Event()
_running = 0
_started = 0


def map_python(
    dataset: "tf.data.Dataset",
    function: Callable,
    *shapes: Sequence[int | None],
    image_dtype: str = "uint8",
) -> "tf.data.Dataset":
    """Maps a Python function over a dataset of scalars or tuples, in parallel and in order.

    The function takes NumPy values and returns one array per shape (for a single shape, the array
    itself); the first has `image_dtype`, the others are uint8.
    """
    import tensorflow as tf

    leave_gpus_to_the_backend()
    call = until_exit(function)
    first = tf.as_dtype(image_dtype)
    types = [first, *[tf.uint8] * (len(shapes) - 1)] if len(shapes) > 1 else first

    def mapped(*parts):
        results = tf.numpy_function(call, parts, types, stateful=False)
        if len(shapes) == 1:
            return tf.ensure_shape(results, shapes[0])
        return tuple(map(tf.ensure_shape, results, shapes))

    return dataset.map(mapped, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def until_exit(function: Callable) -> Callable:
    """Wraps a function for `tf.numpy_function` or `tf.py_function` so that the process can exit.

    If a pipeline is still alive when the interpreter exits, for example after a Ctrl-C in
    `fit`, TensorFlow waits forever for its Python calls, which can't run anymore. Therefore an
    exit handler waits for the calls in progress, and later calls raise immediately.
    """
    _register_exit_handler()

    @functools.wraps(function)
    def call(*arguments):
        global _running, _started
        with _lock:
            _started += 1
            if _exiting.is_set():
                raise RuntimeError("the interpreter is exiting")
            _running += 1
        try:
            return function(*arguments)
        except Exception as error:
            _failures.append(error)
            raise
        finally:
            with _lock:
                _running -= 1

    return call


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Raises the error of a Python function itself, where TensorFlow would only quote it.

    TensorFlow's own error, a page long, remains as the cause.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("tensorflow"):
            for failure in reversed(_failures):
                if str(failure) in str(error):
                    raise failure from error
        raise


@functools.cache
def _register_exit_handler():
    # The handler that is registered last runs first: this one before TensorFlow's.
    atexit.register(_wait_for_calls)


def _wait_for_calls():
    _exiting.set()
    # The traceback of the error that ended the program refers to the pipelines in its frames.
    sys.last_value = sys.last_traceback = sys.last_exc = None
    gc.collect()
    end = time.monotonic() + _PATIENCE
    seen = -1
    while time.monotonic() < end:
        with _lock:
            quiet = not _running and _started == seen
            seen = _started
        if quiet:
            break
        time.sleep(_QUIET)
