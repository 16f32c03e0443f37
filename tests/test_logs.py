import os
import subprocess
import sys

import pytest
from support.logs import foreign_lines

from keras_psp.logs import kept_lines

LOG = b"""\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1.1   1 port.cc:153] oneDNN custom operations are on.
To enable the following instructions: FMA, rebuild TensorFlow.
W0000 00:00:1.1   1 gpu.cc:1] Cannot dlopen some GPU libraries.
E0000 00:00:1.1   1 cuda.cc:52] failed call to cuInit
F0000 00:00:1.1   1 check.cc:1] Check failed
"""


@pytest.mark.parametrize("level,lines", [("0", 6), ("1", 3), ("2", 2), ("3", 1), ("", 6)])
def test_levels_are_those_of_tensorflow(level, lines):
    kept = kept_lines(LOG, level)
    assert kept.count(b"\n") == lines and LOG.endswith(kept)


def test_what_is_no_log_is_kept():
    text = b"/usr/lib/python3/x.py:1: DeprecationWarning: old\n"
    fatal = LOG.splitlines(keepends=True)[-1]
    assert kept_lines(text + LOG + text, "3") == text + fatal + text


def test_lines_of_litert_and_its_converter_are_log_lines():
    text = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: no such op\n"
    text += b"fully_quantize: 0, inference_type: 6, input_inference_type: UINT8\nours\n"
    assert kept_lines(text, "2") == b"ERROR: no such op\nours\n"


def stderr(code, **variables):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.stderr


TENSORFLOW = "import tensorflow as tf; tf.config.list_physical_devices('GPU'); tf.ones(3) + 1"


@pytest.mark.parametrize(
    "first", ["import keras_psp", "import keras_psp.data, keras_psp.prediction"]
)
def test_importing_the_package_first_silences_tensorflow(first):
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    text = stderr(f"{first}; {TENSORFLOW}")
    assert not [line for line in foreign_lines(text) if "FutureWarning" not in line]  # Keras 3.13


def test_the_variable_of_tensorflow_shows_its_log():
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    shown = stderr(f"import keras_psp; {TENSORFLOW}", TF_CPP_MIN_LOG_LEVEL="0")
    assert "oneDNN" in shown or "cuda" in shown.lower() or "cpu_feature_guard" in shown


def test_errors_of_the_import_and_warnings_of_python_come_through(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os, sys, warnings\n"
        "os.write(2, b'I0000 00:00:1.1   1 port.cc:153] oneDNN\\n')\n"
        "warnings.warn('an old option')\n"
        "if os.environ.get('FAIL'): raise ImportError('no library')\n"
        "import logging; get_logger = logging.getLogger\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from keras_psp.logs import *; "
        "quiet_tensorflow(); import tensorflow"
    )
    silent = stderr(code, KERAS_BACKEND="jax")
    assert "an old option" in silent and "oneDNN" not in silent
    failed = stderr(code, KERAS_BACKEND="jax", FAIL="1")
    assert "no library" in failed and "oneDNN" in failed
