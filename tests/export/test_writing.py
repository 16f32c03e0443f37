import os
import subprocess

import numpy as np
import pytest
from support.networks import tiny_pspnet

from keras_psp import export
from keras_psp.export.graph import Signature
from keras_psp.export.writing import checked_export

FORMATS = {
    "onnx": ".onnx",
    "openvino": "",
    "saved_model": "",
    "tf_serving": "",
    "tflite": ".tflite",
}


@pytest.fixture(scope="module")
def model():
    return tiny_pspnet()


def exported(model, path, *, suffix=None, files=("model.bin",)):
    """Writes a stand-in for an export, which runs."""

    def opener(draft):
        return lambda images: np.zeros(images.shape[:3], np.uint8)

    options = {"suffix": suffix, "files": () if suffix else files}
    with checked_export(path, "export", opener, model, Signature((64, 64)), **options) as draft:
        if suffix:
            draft.touch()
        else:
            draft.mkdir()
            (draft / "model.bin").touch()


def names(folder):
    return sorted(os.listdir(folder))


def test_drafts_of_killed_exports_are_removed_by_the_next_to_the_same_path(model, tmp_path):
    for folder, name in ((".", "a.onnx"), (".", "folder"), ("folder", "folder"), (".", "b.onnx")):
        draft = tmp_path / folder / f".{name}-abc_1234"
        draft.mkdir(parents=True)
        (draft / "new.onnx").touch()
        (draft / "lock").touch()
    exported(model, tmp_path / "a.onnx", suffix=".onnx")
    exported(model, tmp_path / "folder")
    assert names(tmp_path) == [".b.onnx-abc_1234", "a.onnx", "folder"]
    assert names(tmp_path / "folder") == ["model.bin"]


def test_the_current_folder_and_a_volume_may_be_empty_or_an_export(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lost+found").mkdir()
    for _ in range(2):
        exported(model, ".")
        assert names(tmp_path) == ["lost+found", "model.bin"]
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"\. contains other files, e\.g\. thesis\.txt; give"):
        exported(model, ".")


def test_a_home_folder_is_expanded_and_addresses_are_refused(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    exported(model, "~/a.onnx", suffix=".onnx")
    assert names(tmp_path) == ["a.onnx"]
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/b.onnx: there is no such file"):
        export.open_onnx("~/b.onnx")
    for use in (lambda path: exported(model, path), export.open_export):
        with pytest.raises(ValueError, match=r"path is 'gs:.*', an address; give a local path"):
            use("gs://bucket/x")
    assert names(tmp_path) == ["a.onnx"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_and_a_file_in_the_way_are_one_sentence_in_every_format(model, tmp_path, kind):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(kind, "tensorflow"))
    disk = tmp_path / "disk"
    disk.mkdir()

    def message(path):
        with pytest.raises(OSError) as raised:
            getattr(export, kind)(model, path, image_size=(64, 64))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    path = disk / f"pspnet{FORMATS[kind]}"
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if os.name == "nt" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    try:
        reason = "the disk is full or broken" if kind == "openvino" else "No space left on device"
        assert message(path).startswith(f"{path} can't be written ({reason}); earlier results are")
        left = [name for name in names(disk) if not (kind == "tf_serving" and name == "pspnet")]
        assert left == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    (disk / "file").touch()
    text = message(disk / "file" / path.name)
    assert text.endswith(f"{disk / 'file'} is a file, not a folder; choose another output.")
