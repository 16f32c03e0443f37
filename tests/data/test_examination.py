import sqlite3

import numpy as np
import pytest
from PIL import Image

from keras_psp.data import examination
from keras_psp.data.examination import Cache, Examined, count_values


def test_values_are_counted_and_those_of_thin_lines_are_not_solid():
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 3] = 7  # a line, one pixel wide
    mask[2:, 4:] = 9
    assert count_values(mask) == {"pixels": {0: 16, 7: 4, 9: 4}, "solid": (0, 9)}


def test_contents_are_read_once_under_any_name(source, tmp_path, monkeypatch):
    first = list(examination.examine_pairs(source, source.paths("train"), progress=False))
    (tmp_path / "scene0.png").rename(tmp_path / "renamed.png")
    pairs = [(tmp_path / "renamed.png", tmp_path / "scene0_label.png")]

    def fail(*arguments):
        raise AssertionError("the contents were read again")

    monkeypatch.setattr(examination, "_contents", fail)
    (again,) = examination.examine_pairs(source, pairs, progress=False)
    assert again.image.endswith("renamed.png")
    assert (again.size, again.pixels, again.digest) == ((4, 6), {1: 24}, first[0].digest)


def test_changed_labels_are_read_again(source, tmp_path):
    pairs = source.paths("train")[:1]
    list(examination.examine_pairs(source, pairs, progress=False))
    Image.new("L", (6, 4), 2).save(tmp_path / "scene0_label.png")
    (again,) = examination.examine_pairs(source, pairs, progress=False)
    assert again.pixels == {2: 24}


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_a_damaged_cache_is_not_used(tmp_path, content):
    path = tmp_path / "examined.sqlite"
    path.write_bytes(content)
    with Cache(path) as cache:
        cache.put(Examined("a", "b", digest="1"), {"size": (2, 3), "deviations": ()})
        assert cache.get(Examined("a", "b", digest="2")) is None


def test_results_survive_the_process(tmp_path):
    path = tmp_path / "examined.sqlite"
    stored = {"size": (2, 3), "deviations": ("16 bits",), "pixels": {7: 6}, "solid": (7,)}
    with Cache(path) as cache:
        cache.put(Examined("a", "b", digest="1"), stored)
    assert sqlite3.connect(path).execute("SELECT count(*) FROM examined").fetchone() == (1,)
    with Cache(path) as cache:
        assert cache.get(Examined("other", "names", digest="1")) == stored


def test_a_place_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with Cache(tmp_path / "file" / "examined.sqlite") as cache:
        cache.put(Examined("a", "b"), {"size": (2, 3), "deviations": ()})
        assert cache.get(Examined("a", "b")) is None
