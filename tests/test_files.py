import errno
import os
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import filelock
import numpy as np
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
            raise PermissionError(13, "in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with (
        pytest.raises(OSError, match=r"saved can't be written \(in use\)"),
        written_aside(path) as aside,
    ):
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


def test_only_abandoned_drafts_of_our_own_files_are_removed(tmp_path):
    def drafts():
        return [path.name[:9] for path in (tmp_path / "a").iterdir()]

    with files.written_aside(tmp_path / "a" / "log.csv") as draft:
        files.remove_drafts(tmp_path / "a", {"log.csv"}.__contains__)  # in use
        assert draft.parent.name.startswith(".log.csv-") and draft.parent.exists()
        abandoned = tmp_path / "a" / ".log.csv-abc_1234"
        shutil.copytree(draft.parent, abandoned)
        (abandoned / "new.csv").touch()
        draft.touch()
    files.remove_drafts(tmp_path, {"log.csv"}.__contains__)  # not in subfolders
    files.remove_drafts(tmp_path / "a", {"other.csv"}.__contains__)
    assert sorted(drafts()) == [".log.csv-", "log.csv"]
    files.remove_drafts(tmp_path, {"log.csv"}.__contains__, recursive=True)
    assert drafts() == ["log.csv"]
    # A user's hidden folder with such a name has other files.
    abandoned.mkdir()
    (abandoned / "thesis.txt").touch()
    files.remove_drafts(tmp_path / "a", {"log.csv"}.__contains__)
    assert (abandoned / "thesis.txt").exists()


def test_names_that_are_not_utf_8_can_be_printed():
    name = os.fsdecode(b"caf\xe9.png")
    assert files.printable(name) == "caf\\xe9.png"
    assert files.printable("café.png") == "café.png"


def test_outputs_are_local_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.local_path("output", "~/x") == tmp_path / "x"
    assert files.local_path("output", Path("a/b")) == Path("a/b")
    for address in ("gs://bucket/x", "s3://bucket/x", "https://example.org/x", Path("gs://b/x")):
        with pytest.raises(ValueError, match=r"output is .*an address; give a local path"):
            files.local_path("output", address)
    with pytest.raises(ValueError, match="output is empty"):
        files.local_path("output", "")
    with pytest.raises(ValueError, match="output is '~nobody-here/x', but there is no user"):
        files.local_path("output", "~nobody-here/x")
    with pytest.raises(ValueError, match=r"output is 'a.x00'; give a path"):
        files.local_path("output", "a\0")
    for value in (None, 3, [], b"x"):
        with pytest.raises(TypeError, match=r"output is .*it must be a path"):
            files.local_path("output", value)


@pytest.mark.parametrize("name", ["", "..", "../escaped", "a/b", "a\\b", "/etc", "gs://b"])
def test_names_are_not_paths(name):
    assert files.checked_name("pspnet-2.1 a", "give a name") == "pspnet-2.1 a"
    with pytest.raises(ValueError, match="is a path, not a name; give a name"):
        files.checked_name(name, "give a name")


def test_a_folder_is_claimed_if_it_is_absent_empty_or_ours(tmp_path):
    def claim(name):
        files.claim(tmp_path / name, ("settings.json", "old.json"), contents="evaluation")

    claim("new")
    assert (tmp_path / "new").is_dir()
    (tmp_path / "new" / ".DS_Store").touch()
    (tmp_path / "new" / "lost+found").mkdir()  # of a mounted volume
    claim("new")
    (tmp_path / "new" / "thesis.txt").touch()
    with pytest.raises(
        ValueError, match=r"new is not empty \(thesis.txt\) and contains no evaluation; choose"
    ):
        claim("new")
    (tmp_path / "new" / ".report.html-abc_1234").mkdir()  # of a killed process
    (tmp_path / "new" / "old.json").touch()
    claim("new")
    assert not (tmp_path / "new" / ".report.html-abc_1234").exists()
    with pytest.raises(ValueError, match=r"thesis.txt is a file; the output must be a folder"):
        claim("new/thesis.txt")
    with pytest.raises(OSError, match=r"txt/a can't be written: .*thesis.txt is a file, not"):
        claim("new/thesis.txt/a")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_out_of_a_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").touch()
    (tmp_path / "out" / "same").symlink_to("settings.json")
    (tmp_path / "link").symlink_to("out")  # the output itself may be a link
    files.claim(tmp_path / "link", "settings.json", contents="run")
    (tmp_path / "out" / "predictions").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"out/predictions is a link to .*, outside of the output"):
        files.claim(tmp_path / "out", "settings.json", contents="run")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out.csv").symlink_to("mine")
    with written_aside(tmp_path / "out.csv") as draft:
        draft.write_text("new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "out.csv").read_text() == "new" and not (tmp_path / "out.csv").is_symlink()


def mounted(monkeypatch, folder):
    """Lets a folder or file behave as a mount point: it can't be renamed or replaced."""
    replace = os.replace

    def busy(source, target):
        if folder in (Path(source), Path(target)):
            raise OSError(errno.EBUSY, "Device or resource busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)


@pytest.mark.parametrize("kind", ["seen as mounted", "not seen as mounted", "current folder"])
def test_a_folder_that_cannot_be_replaced_is_written_inside(tmp_path, monkeypatch, kind):
    path = tmp_path / "volume"
    (path / "variables").mkdir(parents=True)
    (path / "variables" / "old").touch()
    (path / "lost+found").mkdir()
    mounted(monkeypatch, path)
    if kind == "seen as mounted":
        monkeypatch.setattr(os.path, "ismount", lambda folder: Path(folder) == path)
        # Its parent may be read-only or another file system.
        monkeypatch.setattr(Path, "mkdir", only_in(path, Path.mkdir))
    if kind == "current folder":
        monkeypatch.chdir(path)
    for content in (b"one", b"two"):
        with written_aside("." if kind == "current folder" else path) as draft:
            os.makedirs(draft / "variables")
            (draft / "saved_model.pb").write_bytes(content)
        assert (path / "saved_model.pb").read_bytes() == content
    assert sorted(entry.name for entry in path.iterdir()) == [
        "lost+found",
        "saved_model.pb",
        "variables",
    ]
    assert list((path / "variables").iterdir()) == []


def only_in(folder, mkdir):
    """`Path.mkdir` that fails outside of a folder."""

    def limited(self, *arguments, **options):
        if not self.is_relative_to(folder) and not self.exists():
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        mkdir(self, *arguments, **options)

    return limited


def test_a_failed_replacement_inside_a_mounted_folder_restores_its_entries(tmp_path, monkeypatch):
    path = tmp_path / "volume"
    path.mkdir()
    for name in "ab":
        (path / name).write_text("old")
    monkeypatch.setattr(os.path, "ismount", lambda folder: Path(folder) == path)
    replace = os.replace

    def fail(source, target):
        if Path(target) == path / "b" and "old" not in Path(source).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    refused = pytest.raises(OSError, match="No space left")
    with refused, written_aside(path) as draft:
        draft.mkdir()
        for name in "ab":
            (draft / name).write_text("new")
    assert {entry.name: entry.read_text() for entry in path.iterdir()} == {"a": "old", "b": "old"}


def test_a_mounted_file_is_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "pspnet.onnx"
    path.write_bytes(b"old")
    mounted(monkeypatch, path)
    with written_aside(path) as draft:
        draft.write_bytes(b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["pspnet.onnx"]


def test_errors_of_the_disk_are_one_sentence_and_those_of_other_files_unchanged(tmp_path):
    def fail(error):
        with written_aside(tmp_path / "a.bin") as draft:
            raise error(draft) if callable(error) else error

    text = r"a.bin can't be written \(No space left on device\); earlier results are complete"
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        lambda draft: OSError(errno.ENOSPC, "No space left on device", str(draft)),
        OSError("Can't write data (errno = 28, error message = 'No space left on device', b = 1)"),
    ):
        with pytest.raises(files.OutputError, match=text):
            fail(error)
    with pytest.raises(FileNotFoundError, match=r"photo\.jpg"):
        fail(FileNotFoundError(errno.ENOENT, "No such file", "photo.jpg"))
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"b.bin can't be written: .*file is a file, not a fol"),
        written_aside(tmp_path / "file" / "b.bin"),
    ):
        pass


def test_a_real_volume_is_written_inside(tmp_path):
    path = tmp_path / "volume"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(path)]
    if os.name == "nt" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        for content in (b"one", b"two"):
            with written_aside(path) as draft:
                draft.mkdir()
                (draft / "model.bin").write_bytes(content)
        refused = pytest.raises(OSError, match="No space left")
        with refused, written_aside(path) as draft:
            draft.mkdir()
            (draft / "model.bin").write_bytes(bytes(100_000))
        assert (path / "model.bin").read_bytes() == b"two"
        assert os.listdir(path) == ["model.bin"]
    finally:
        subprocess.run(["umount", str(path)], check=True)


def damaged_copies(path, count=300):
    """Yields contents of a file with one byte changed, or with its end cut off."""
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(count):
        place = int(generator.integers(len(data)))
        yield data[:place] + bytes([data[place] ^ (1 << generator.integers(8))]) + data[place + 1 :]
        yield data[:place]


def test_a_damaged_archive_is_read_as_written_or_refused(tmp_path):
    path = tmp_path / "state.npz"
    arrays = {"a": np.arange(20.0), "b": np.array(["x", "yz"]), "c": np.array(3)}
    np.savez(path, **arrays)
    refused = 0
    for content in damaged_copies(path):
        path.write_bytes(content)
        try:
            found = files.read_npz(path)
        except ValueError:
            refused += 1
            continue
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
    assert refused > 300


def test_damage_of_a_keras_file_is_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}" * 100)
    assert files.damage_in_zip(tmp_path / "a.keras") == ""
    content = bytearray((tmp_path / "a.keras").read_bytes())
    content[content.index(b"{}{}") + 5] ^= 1
    (tmp_path / "a.keras").write_bytes(content)
    assert files.damage_in_zip(tmp_path / "a.keras") == "wrong checksum of config.json"
    (tmp_path / "a.keras").write_bytes(content[:100])
    assert files.damage_in_zip(tmp_path / "a.keras") == "File is not a zip file"
