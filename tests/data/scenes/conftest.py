import pytest

from keras_psp.data import scenes


@pytest.fixture(scope="package")
def many():
    """200 scenes of the default size."""
    return [scenes.scene(seed) for seed in range(200)]
