import subprocess
import sys
from pathlib import Path

import pytest

import keras_psp.data


def test_importing_the_data_package_does_not_import_tensorflow():
    # With an empty parent package: keras_psp itself needs Keras.
    package = Path(keras_psp.data.__file__).parents[1]
    code = (
        "import sys, types\n"
        "parent = types.ModuleType('keras_psp')\n"
        f"parent.__path__ = [{str(package)!r}]\n"
        "sys.modules['keras_psp'] = parent\n"
        "from keras_psp.data import ImageFolder, evaluation_batches, training_batches\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_in_the_data_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'VideoFolder'"):
        _ = keras_psp.data.VideoFolder
    assert "ImageFolder" in dir(keras_psp.data)
