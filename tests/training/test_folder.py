import os

import pytest

from keras_psp.files import written_aside
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
    with pytest.raises(ValueError, match=r"a run with epochs=4, not 3; to train longer") as raised:
        folder.begin(small, "data")
    assert str(raised.value).endswith(
        f"to train longer, give another --output and weights={str(tmp_path / 'run')!r}, to "
        "start from its network; to resume it, give epochs=4."
    )
    with pytest.raises(ValueError, match=r"holds a run with batch_size=16, not 4; choose another"):
        folder.begin(recipe("camvid", epochs=4, batch_size=4), "data")
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
    folder = RunFolder(tmp_path / "run")
    with folder.locked(), written_aside(folder / "last.keras") as draft:
        draft.touch()
        for _ in range(2):  # the second message names the first training too
            with pytest.raises(
                ValueError, match=rf"another run is training in .* \(process {os.getpid()} on"
            ):
                RunFolder(tmp_path / "run").locked().__enter__()
        with RunFolder(tmp_path / "run", writes=False).locked():  # another machine of it
            pass
        assert draft.exists()
    (folder / "last.keras").unlink()
    draft.parent.mkdir()
    draft.touch()
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


@pytest.fixture
def begun(tmp_path):
    """The folder of a run with a checkpoint."""
    folder = RunFolder(tmp_path / "run")
    folder.begin(recipe("camvid"), "data")
    folder.record_start(["CPU"])
    folder.store_or_check_data(data_of(["a", "b"]))
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "step-00000001.npz").touch()
    return folder


def data_of(names, classes=("sky", "car")):
    rows = [[name, f"image {index}", "label"] for index, name in enumerate(names)]
    identity = {"class_names": list(classes), "ignore_class": 255, "values": None}
    return {**identity, "compared by": "content", "splits": {"train": rows}}


def test_other_data_is_named_in_a_sentence(begun, capsys):
    begun.store_or_check_data(data_of(["a", "b"]))
    assert capsys.readouterr().err == ""
    with pytest.raises(
        ValueError,
        match=r"run was trained on other data: class 0 is 'car', not 'sky' \(1 more differ\); "
        "restore the data, or choose another --output to train on this",
    ):
        begun.store_or_check_data(data_of(["a", "b"], ("car", "sky")))
    begun.store_or_check_data(data_of(["x", "b"]))
    assert "run: 1 images have other names than at the start, in the same order" in (
        capsys.readouterr().err
    )
    (begun / "data.json").unlink()
    begun.store_or_check_data(data_of(["a"]))
    assert "run: has no data.json, so its data can't be compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "use", "remedy"),
    [
        (
            "recipe.json",
            lambda run: run.begin(recipe("camvid"), "data"),
            "restore it, or choose another --output",
        ),
        (
            "data.json",
            lambda run: run.store_or_check_data(data_of(["a"])),
            "restore it, remove it to resume without comparing the data, or choose another",
        ),
        ("starts.json", lambda run: run.record_start([]), "restore it, or remove it"),
    ],
)
def test_damaged_files_are_named_with_a_remedy(begun, name, use, remedy):
    for content in (b"", b"{", b"\xff", b"3"):
        (begun / name).write_bytes(content)
        with pytest.raises(ValueError) as raised:
            use(begun)
        message = str(raised.value)
        assert message.startswith(f"{begun / name} is damaged (") and remedy in message
        assert "\n" not in message


def test_a_name_of_the_running_training_that_cannot_be_read(tmp_path):
    with RunFolder(tmp_path / "run").locked():
        (tmp_path / "run" / ".owner").write_bytes(b"\xff")
        with pytest.raises(ValueError, match="another run is training"):
            RunFolder(tmp_path / "run").locked().__enter__()
