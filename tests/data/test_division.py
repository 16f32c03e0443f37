import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_psp.data.division import divided, split_folders, split_named


@given(st.lists(st.text(min_size=1), unique=True, max_size=60))
def test_parts_are_disjoint_keep_the_order_and_depend_on_the_names(names):
    parts = divided(names, str)
    assert sorted(itertools.chain(*parts.values())) == sorted(names)
    assert all(part == [name for name in names if name in part] for part in parts.values())
    again = divided(names[::-1], str)
    assert {split: set(part) for split, part in parts.items()} == {
        split: set(part) for split, part in again.items()
    }
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
