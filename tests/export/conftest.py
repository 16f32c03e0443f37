import pytest
from support.networks import tiny_pspnet


@pytest.fixture(scope="module")
def model():
    return tiny_pspnet()
