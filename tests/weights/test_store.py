import shutil

import pytest

from keras_psp.weights import store


def test_temporary_files_of_running_processes_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with store.workspace() as mine:
        (mine / "half").touch()
        with store.workspace():
            assert (mine / "half").exists()
    assert list(store.folder().iterdir()) == []
    (store.folder() / ".incomplete-killed").mkdir()
    (store.folder() / ".incomplete-killed" / "half").touch()
    with store.workspace():  # as the next fetch does
        assert not (store.folder() / ".incomplete-killed").exists()
    shutil.rmtree(store.folder())
    (tmp_path / "keras_psp").touch()
    with pytest.raises(OSError, match=r"can't be written .* set KERAS_HOME to a folder"):
        store.workspace().__enter__()
