"""Two virtual CPU devices, before TensorFlow starts; one seed; memory that goes back.

Slow tests run last and are skipped after --slow-minutes, so that a run also ends on a slow machine.
"""

import contextlib
import ctypes
import gc
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

import keras_psp.data  # noqa: F401

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

START = time.monotonic()

# Half a million objects of the packages above, which every collection would look through.
gc.collect()
gc.freeze()


def pytest_addoption(parser):
    parser.addoption("--slow-minutes", type=float, default=33, help="skip slow tests after [33]")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_runtest_setup(item):
    minutes = item.config.getoption("slow_minutes")
    if item.get_closest_marker("slow") and time.monotonic() - START > 60 * minutes:
        pytest.skip(f"slow, and the run took {minutes:g} minutes: python -m pytest -n 2 -m slow")


@pytest.fixture(autouse=True)
def seed():
    """Random weights are the same in every run."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """Examined files are remembered for one test only."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setattr("keras_psp.data.examination.cache_folder", lambda: folder)


@pytest.fixture(autouse=True, scope="module")
def freed():
    """Compiled functions and graphs of a file's tests go with it: gigabytes by the end."""
    yield
    if keras.backend.backend() == "tensorflow":
        # TensorFlow keeps every graph with a custom gradient (that of our loss), and through
        # it the weights of every model that was trained.
        from tensorflow.python.framework import ops

        kept = ops.gradient_registry._registry
        for name in [name for name in kept if name.startswith("CustomGradient-")]:
            del kept[name]
    keras.utils.clear_session()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc's alone
        ctypes.CDLL("libc.so.6").malloc_trim(0)
