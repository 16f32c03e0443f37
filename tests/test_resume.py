import json

import pytest

from keras_psp.resume import changed_settings, check_settings, store_or_check_settings

TEXTS = {"contents": "runs/1 holds a run", "remedy": "choose another output"}


def test_the_message_names_the_setting_both_values_and_the_remedy():
    stored = {"epochs": 3, "crop": [2, 3], "older": True}
    check_settings(stored, {"crop": (2, 3), "epochs": 3}, **TEXTS)
    with pytest.raises(ValueError) as raised:
        check_settings(stored, {"crop": (2, 4), "epochs": 4}, **TEXTS)
    message = "runs/1 holds a run with crop=[2, 3], not [2, 4]; choose another output."
    assert str(raised.value) == message


def test_a_setting_that_was_not_stored_has_changed():
    assert changed_settings({"a": 1}, {"a": 1, "b": 2, "c": None}) == ["b"]


def test_settings_are_stored_once_and_then_checked(tmp_path):
    path = tmp_path / "out" / "settings.json"
    store_or_check_settings(path, {"scales": (0.5, 1.0)}, **TEXTS)
    assert json.loads(path.read_text()) == {"scales": [0.5, 1.0]}
    store_or_check_settings(path, {"scales": (0.5, 1.0)}, **TEXTS)
    with pytest.raises(ValueError, match=r"scales=\[0.5, 1.0\], not \[1.0\]; choose another"):
        store_or_check_settings(path, {"scales": (1.0,)}, **TEXTS)
    assert [file.name for file in path.parent.iterdir()] == ["settings.json"]
