import multiprocessing
import os
import signal
import time

import pytest

from keras_psp.export import versions
from keras_psp.files import remove_abandoned


def write(path):
    path.mkdir()
    (path / "saved_model.pb").write_text("complete")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_numbers_increase_and_versions_never_change(tmp_path):
    folder = tmp_path / "pspnet"
    assert [versions.publish(folder, write).name for _ in range(3)] == ["1", "2", "3"]
    (folder / "2" / "saved_model.pb").write_text("mine")
    # Gaps remain, numbers compare as numbers, and other names aren't versions.
    for other in ("0041", "1.5", "-7", "٣", "notes"):
        (folder / other).mkdir()
    assert versions.publish(folder, write) == folder / "42"
    assert (folder / "2" / "saved_model.pb").read_text() == "mine"
    assert versions.versions(folder) == [1, 2, 3, 41, 42]
    assert not [name for name in names(folder) if name.startswith(versions.DRAFT)]


def test_a_version_that_fails_leaves_nothing(tmp_path):
    def fail(path):
        write(path)
        raise KeyError("half")

    with pytest.raises(KeyError):
        versions.publish(tmp_path / "pspnet", fail)
    assert names(tmp_path / "pspnet") == []


def test_a_number_taken_by_another_process_is_skipped(tmp_path):
    folder = tmp_path / "pspnet"

    def slowly(path):
        write(path)
        assert versions.publish(folder, write).name == "1"

    assert versions.publish(folder, slowly).name == "2"

    def late(path):
        # Another process took the number meanwhile: the move itself must fail.
        write(path)

    listed = versions.versions
    try:
        versions.versions = lambda folder: [0]
        assert versions.publish(folder, late).name == "3"
    finally:
        versions.versions = listed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_concurrent_exports_get_different_numbers(tmp_path):
    folder = tmp_path / "pspnet"
    context = multiprocessing.get_context("fork")

    def export():
        for _ in range(10):
            versions.publish(folder, write)

    processes = [context.Process(target=export) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert names(folder) == sorted(map(str, range(1, 41)))
    assert all(
        (folder / name / "saved_model.pb").read_text() == "complete" for name in names(folder)
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_exports_leave_no_version_and_the_next_removes_their_drafts(tmp_path):
    folder = tmp_path / "pspnet"
    context = multiprocessing.get_context("fork")

    def hang(path):
        path.mkdir()
        (path / "saved_model.pb").write_text(str(os.getpid()))
        time.sleep(60)

    def drafts():
        files = folder.glob(f"{versions.DRAFT}*/version/saved_model.pb")
        return sorted(int(file.read_text() or 0) for file in files)

    processes = [context.Process(target=versions.publish, args=(folder, hang)) for _ in range(2)]
    for count, process in enumerate(processes, 1):
        process.start()
        while process.pid not in drafts() or len(drafts()) < count:
            time.sleep(0.01)
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[0].join()
    assert versions.publish(folder, write).name == "1"
    assert drafts() == [processes[1].pid]
    os.kill(processes[1].pid, signal.SIGKILL)
    processes[1].join()
    remove_abandoned(folder, versions.DRAFT)
    assert names(folder) == ["1"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("models/..", "the model's name, '..' in"),
        ("models/a b", "the model's name, 'a b' in"),
        ("models/.hidden", "letters, digits, '-', '_' and '.'"),
        ("models/pspnet\n", r"the model's name, 'pspnet\\n' in"),
        ("models/pspnet/3", "the model's name, '3' in .* not only digits"),
        ("", "folder is empty; give a path"),
        ("a" * 101, "1 to 100 letters"),
        ("gs://bucket/pspnet", "folder is 'gs://bucket/pspnet', an address; give a local path"),
    ],
)
def test_invalid_model_names_are_refused(path, message):
    with pytest.raises(ValueError, match=message):
        versions.model_folder(path)


def test_folders_that_cannot_contain_versions_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; give the folder of the model's versions"):
        versions.model_folder(tmp_path / "file")
    write(tmp_path / "saved")
    with pytest.raises(ValueError, match="is a SavedModel; give a folder for versions"):
        versions.model_folder(tmp_path / "saved")
