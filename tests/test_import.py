import subprocess
import sys

import pytest

# A finder that knows no TensorFlow stands for an environment without it.
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import numpy as np
import keras_psp
model = keras_psp.PSPNet(2, backbone=keras_psp.DilatedResNet(18, stem_filters=(8,), num_stages=2))
print(model(np.zeros((1, 48, 48, 3), "float32")).shape)
"""


def run(code, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_core_works_without_tensorflow():
    pytest.importorskip("jax", reason="jax is not installed")
    blocked = {"tensorflow", "tensorflow_datasets", "torch"}
    found = run(WITHOUT.format(blocked=blocked), KERAS_BACKEND="jax")
    assert found.stdout.strip() == "(1, 48, 48, 2)", found.stderr[-2000:]


def test_the_edges_come_when_they_are_used():
    code = (
        "import keras_psp, sys; assert 'keras_psp.data' not in sys.modules; "
        "print(*dir(keras_psp)); print(keras_psp.export.onnx.__name__, "
        "keras_psp.training.recipe('scenes').crop_size, hasattr(keras_psp, 'nothing'))"
    )
    names, found = run(code).stdout.strip().splitlines()
    assert found == "onnx 96 False"
    assert {"data", "evaluation", "export", "training", "visual", "weights"} < set(names.split())
    assert {"evaluate", "list_presets", "predict", "train"} < set(names.split())


def test_the_functions_are_those_of_the_rooms():
    # Wrappers would hide their signatures from help() and editors.
    from keras_psp import evaluate, evaluation, list_presets, predict, prediction, train, weights
    from keras_psp.training import train as trains

    assert (train, predict) == (trains, prediction.predict)
    assert (evaluate, list_presets) == (evaluation.evaluate, weights.list_presets)


def test_import_pulls_in_nothing_but_keras_and_numpy():
    code = (
        "import keras, sys; before = set(sys.modules); import keras_psp; "
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} - {'keras_psp'}))"
    )
    assert run(code).stdout.strip() == "[]"
