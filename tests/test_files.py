import os
import time
from pathlib import Path

import filelock
import pytest

from keras_psp import files
from keras_psp.files import put_in_place, written_aside


def test_a_file_appears_complete_and_with_the_usual_permissions(tmp_path):
    path = tmp_path / "folder" / "model.bin"
    with written_aside(path) as aside:
        assert aside.suffix == ".bin"
        aside.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    usual = tmp_path / "usual"
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode


def test_drafts_of_the_longest_names(tmp_path):
    longest = tmp_path / ("ä" * 125 + ".json")  # 255 bytes
    with written_aside(longest) as aside:
        assert aside.parent.name.startswith("." + "ä" * 40 + "-")
        aside.write_bytes(b"new")
    assert longest.read_bytes() == b"new"
    with written_aside(tmp_path / "recipe.json") as aside:
        assert aside.parent.name.startswith(".recipe.json-")
        aside.touch()


def test_a_failed_block_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")

    def fail():
        with written_aside(path) as aside:
            aside.write_bytes(b"half")
            raise RuntimeError("converter")

    with pytest.raises(RuntimeError, match="converter"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_replacement_restores_the_old_folder(tmp_path, monkeypatch):
    path = tmp_path / "saved"
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"old")
    replace = os.replace

    def fail(source, target):
        if Path(source).stem == "new":
            raise PermissionError("in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError), written_aside(path) as aside:
        aside.mkdir()
    assert (path / "saved_model.pb").read_bytes() == b"old"


def test_a_file_is_flushed_to_disk_before_it_is_renamed(tmp_path, monkeypatch):
    path, draft = tmp_path / "model.bin", tmp_path / "draft"
    path.write_bytes(b"old")
    draft.write_bytes(b"new")
    seen = []

    def cannot(handle):
        seen.append((os.fstat(handle).st_size, path.read_bytes()))
        raise OSError("not on this file system")

    monkeypatch.setattr(os, "fsync", cannot)
    put_in_place(draft, path)
    assert seen == [(3, b"old")]
    assert path.read_bytes() == b"new" and not draft.exists()


def test_a_file_does_not_replace_a_folder(tmp_path):
    kept = tmp_path / "a.png" / "b.png"
    kept.parent.mkdir()
    kept.write_text("mine")
    refused = pytest.raises(IsADirectoryError, match="is a folder and is not replaced by a file")
    with refused, written_aside(tmp_path / "a.png") as draft:
        draft.write_text("new")
    assert kept.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_without_locks_only_old_workspaces_are_removed(tmp_path, monkeypatch):
    def acquire(self, *args, **kwargs):
        raise OSError("no locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    for name in ("young", "old", "unlocked", "old-unlocked"):
        (tmp_path / f".draft-{name}").mkdir()
        if "unlocked" not in name:
            (tmp_path / f".draft-{name}" / "lock").touch()
        if "old" in name:
            os.utime(tmp_path / f".draft-{name}", (0, time.time() - 2 * files.ABANDONED))
    (tmp_path / "other").mkdir()
    with files.workspace(tmp_path, ".draft-") as mine:
        assert mine.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".draft-unlocked", ".draft-young", "other"]


def test_workspaces_in_use_are_kept_and_abandoned_ones_removed(tmp_path):
    with files.workspace(tmp_path, ".draft-") as mine, files.workspace(tmp_path, ".draft-"):
        assert (mine / "lock").exists()
    (tmp_path / ".draft-dead").mkdir()
    (tmp_path / ".draft-dead" / "lock").touch()
    files.remove_abandoned(tmp_path, ".draft-")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_does_not_wait(tmp_path):
    with files.locked(tmp_path / "lock") as first, files.locked(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with files.locked(tmp_path / "lock") as again:
        assert again is True


def test_only_drafts_of_our_own_files_are_removed(tmp_path):
    with files.written_aside(tmp_path / "a" / "log.csv") as draft:
        assert draft.parent.name.startswith(".log.csv-")
        draft.touch()
        files.remove_drafts(tmp_path, {"log.csv"}.__contains__)  # not in subfolders
        assert draft.exists()
        files.remove_drafts(tmp_path / "a", {"other.csv"}.__contains__)
        assert draft.exists()
        files.remove_drafts(tmp_path, {"log.csv"}.__contains__, recursive=True)
        assert not draft.exists()
        draft.parent.mkdir()
        draft.touch()


def test_names_that_are_not_utf_8_can_be_printed():
    name = os.fsdecode(b"caf\xe9.png")
    assert files.printable(name) == "caf\\xe9.png"
    assert files.printable("café.png") == "café.png"


def test_outputs_are_local_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.output_path("output", "~/x") == tmp_path / "x"
    assert files.output_path("output", Path("a/b")) == Path("a/b")
    for address in ("gs://bucket/x", "s3://bucket/x", "https://example.org/x", Path("gs://b/x")):
        with pytest.raises(ValueError, match=r"output is .*an address; give a local path"):
            files.output_path("output", address)
    with pytest.raises(ValueError, match="output is empty"):
        files.output_path("output", "")
    for value in (None, 3, [], b"x"):
        with pytest.raises(TypeError, match=r"output is .*it must be a path"):
            files.output_path("output", value)
