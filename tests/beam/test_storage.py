from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

from keras_psp import beam
from keras_psp.beam import handler, results, storage

RULES = (("images/", "labels/"),)


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("format", results.FORMATS)
def test_a_job_on_another_file_system(
    write_set, network, by_hand, tmp_path, monkeypatch, format, objects, bucket
):
    if objects:
        monkeypatch.setattr(storage, "_OBJECT_STORES", ("memory",))
    expected = write_set()
    for path in tmp_path.rglob("*.png"):
        bucket.files[f"memory://bucket/{path.relative_to(tmp_path)}"] = path.read_bytes()
    bucket.files["memory://bucket/small.keras"] = network.read_bytes()
    assert handler.model_facts("memory://bucket/small.keras").num_classes == 3
    source = beam.ImageFiles("memory://bucket/images/**.png", labels=RULES)
    for _ in range(2):
        done = beam.predict_many(
            source,
            "memory://bucket/small.keras",
            "memory://bucket/out",
            format=format,
            progress=False,
        )
        np.testing.assert_array_equal(done.confusion, expected)
        assert (done.output, done.images) == ("memory://bucket/out", 6)
    written = {path for path in bucket.files if path.startswith("memory://bucket/out/")}
    assert not any(storage.is_draft(path) for path in written)
    assert set(bucket.renamed) == (set() if objects else written)
    if format == "png":
        assert "memory://bucket/out/classes/folder 1/3.png" in written


def test_files_are_complete_or_absent(tmp_path):
    path = str(tmp_path / "a/b/c.png")
    storage.write_bytes(path, b"one")
    storage.write_bytes(path, b"two")
    assert storage.read_bytes(path) == b"two" and storage.matches(f"{tmp_path}/**.png") == [path]
    draft = Path(tmp_path / "a/.d.png-abcdefgh/new.png")
    draft.parent.mkdir()
    draft.write_bytes(b"ha")
    assert storage.matches(f"{tmp_path}/**.png") == [path]
    cut = tmp_path / f"a/.{'e' * 40}-abcdefgh"  # of a name whose suffix doesn't fit
    cut.mkdir()
    own = tmp_path / "a/.own-abcdefgh"
    own.mkdir()
    storage.sweep(str(tmp_path))
    assert not draft.parent.exists() and not cut.exists()
    assert own.exists() and Path(path).exists()
