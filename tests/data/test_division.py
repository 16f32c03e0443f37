import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_psp.data.division import divided, split_folders, split_named


@given(st.lists(st.text("abcdé01 ", min_size=1), unique=True, max_size=60))
def test_parts_are_disjoint_keep_the_order_and_depend_on_the_names(names):
    pairs = [(Path("images", f"{name}.jpg"), None) for name in names]
    parts = divided(pairs)
    assert parts.pop("all") == pairs
    assert sorted(itertools.chain(*parts.values())) == sorted(pairs)
    assert all(part == [pair for pair in pairs if pair in part] for part in parts.values())
    moved = [(Path("other", image.with_suffix(".png").name), None) for image, _ in pairs[::-1]]
    again = divided(moved)
    for split, part in parts.items():
        assert {image.stem for image, _ in part} == {image.stem for image, _ in again[split]}
    if len(names) >= 3:
        assert len(parts["val"]) == len(parts["test"]) == max(1, round(len(names) / 10))


def test_folders_of_splits_have_several_names(tmp_path):
    assert [split_named(name) for name in ("Train", "valid", "Validation", "testing", "x")] == [
        "train",
        "val",
        "val",
        "test",
        None,
    ]
    for name in ("Training", "other", "test"):
        (tmp_path / name).mkdir()
    assert {s: f.name for s, f in split_folders(tmp_path).items()} == {
        "train": "Training",
        "test": "test",
    }
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="Training and train are both the split 'train'; rename"):
        split_folders(tmp_path)
