import pytest
from support import datasets


@pytest.fixture
def make(tmp_path):
    """Writes the miniature of a data set and returns its folder."""

    def make(name, **options):
        if name == "lmo" or options.get("augmentation") == "mat":
            pytest.importorskip("scipy", reason="reads and writes .mat files")
        root = tmp_path / name
        root.mkdir()
        datasets.MAKERS[name](root, **options)
        return root

    return make
