import os

import pytest

from keras_psp.training import recipe
from keras_psp.training.folder import RunFolder
from keras_psp.training.log import Table


def test_rows_after_the_checkpoint_are_forgotten(tmp_path):
    table = Table(tmp_path / "log.csv", ("step", "loss"))
    table.cut(0)
    for step in range(1, 5):
        table.add({"step": step, "loss": 1 / step})
    with open(table.path, "a") as file:
        file.write("5")  # half a row of a killed process
    again = Table(table.path, ("step", "loss"))
    again.cut(3)
    assert again.column("step") == [1, 2, 3]
    assert again.column("loss") == [1 / step for step in (1, 2, 3)]
    again.add({"step": 4})
    assert table.path.read_text().splitlines()[-2:] == [f"3,{1 / 3!r}", "4,"]


def test_a_folder_holds_one_run(tmp_path):
    small = recipe("camvid", epochs=3)
    folder = RunFolder(tmp_path / "run")
    assert not folder.begin(small, "data")
    # Without a checkpoint it is no run yet, and another recipe may take its place.
    assert not folder.begin(recipe("camvid", epochs=4), "data")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "step-00000001.npz").touch()
    assert folder.begin(recipe("camvid", epochs=4), "data")
    with pytest.raises(ValueError, match=r"holds a run with epochs=4, not 3; choose another"):
        folder.begin(small, "data")
    folder.settle("examples", 5)
    folder.settle("examples", 5)
    with pytest.raises(ValueError, match="holds a run with examples=5, not 4"):
        folder.settle("examples", 4)
    assert folder.begin(recipe("camvid", epochs=4), "moved")
    # Results without a checkpoint are not overwritten.
    (tmp_path / "run" / "checkpoints" / "step-00000001.npz").unlink()
    (tmp_path / "run" / "log.csv").write_text("step\n1\n")
    with pytest.raises(ValueError, match="holds the log of a run but no checkpoint"):
        folder.begin(recipe("camvid", epochs=4), "data")


def test_a_folder_takes_one_training_at_a_time(tmp_path):
    draft = tmp_path / "run" / ".last.keras-abc_1234"
    with RunFolder(tmp_path / "run").held():
        draft.mkdir()
        for _ in range(2):  # the second message names the first training too
            with pytest.raises(
                ValueError, match=rf"another training is running in .* \(process {os.getpid()} on"
            ):
                RunFolder(tmp_path / "run").held().__enter__()
        with RunFolder(tmp_path / "run", writes=False).held():  # another machine of it
            pass
        assert draft.exists()
    with RunFolder(tmp_path / "run").held():
        assert not draft.exists()  # a killed training's
    # What a folder was held by is no run in it.
    assert not RunFolder(tmp_path / "run").begin(recipe("camvid"), "data")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"isn't empty \(thesis.txt\) and holds no run"):
        RunFolder(tmp_path).begin(recipe("camvid"), "data")
    with pytest.raises(ValueError, match="is a file"):
        RunFolder(tmp_path / "thesis.txt")
