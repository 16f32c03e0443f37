import os

import pytest

from keras_psp.training import recipe
from keras_psp.training.folder import RunFolder


def test_a_folder_has_one_recipe(tmp_path):
    small = recipe("camvid", epochs=3)
    folder = RunFolder(tmp_path / "run")
    assert not folder.begin(small, "data")
    # Without a checkpoint, another recipe may replace it.
    assert not folder.begin(recipe("camvid", epochs=4), "data")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "step-00000001.npz").touch()
    assert folder.begin(recipe("camvid", epochs=4), "data")
    with pytest.raises(ValueError, match=r"holds a run with epochs=4, not 3; choose another"):
        folder.begin(small, "data")
    folder.store_or_check("examples", 5)
    folder.store_or_check("examples", 5)
    with pytest.raises(ValueError, match="holds a run with examples=5, not 4"):
        folder.store_or_check("examples", 4)
    assert folder.begin(recipe("camvid", epochs=4), "moved")
    # Results without a checkpoint are not overwritten.
    (tmp_path / "run" / "checkpoints" / "step-00000001.npz").unlink()
    (tmp_path / "run" / "log.csv").write_text("step\n1\n")
    with pytest.raises(ValueError, match="holds the log of a run but no checkpoint"):
        folder.begin(recipe("camvid", epochs=4), "data")


def test_two_trainings_cannot_share_a_folder(tmp_path):
    draft = tmp_path / "run" / ".last.keras-abc_1234"
    with RunFolder(tmp_path / "run").locked():
        draft.mkdir()
        for _ in range(2):  # the second message names the first training too
            with pytest.raises(
                ValueError, match=rf"another training is running in .* \(process {os.getpid()} on"
            ):
                RunFolder(tmp_path / "run").locked().__enter__()
        with RunFolder(tmp_path / "run", writes=False).locked():  # another machine of it
            pass
        assert draft.exists()
    with RunFolder(tmp_path / "run").locked():
        assert not draft.exists()  # the draft of a killed training
    # The lock's files are not taken for those of a run.
    assert not RunFolder(tmp_path / "run").begin(recipe("camvid"), "data")


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"is not empty \(thesis.txt\) and contains no run"):
        RunFolder(tmp_path).begin(recipe("camvid"), "data")
    with pytest.raises(ValueError, match="is a file"):
        RunFolder(tmp_path / "thesis.txt")
