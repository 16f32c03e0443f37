import pytest
from support import label_tools


@pytest.fixture(scope="session")
def examples():
    """12 labeled images."""
    return label_tools.scenes()
