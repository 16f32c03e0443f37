import numpy as np
import pytest

from keras_psp.resume import (
    changed_settings,
    check_settings,
    read_json,
    read_record,
    row_checksum,
    write_record,
)

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


def test_inner_settings_and_networks_are_named_in_words():
    with pytest.raises(ValueError, match="runs/1 holds a run with seed=1, not 2; choose"):
        check_settings({"data": {"seed": 1, "a": 0}}, {"data": {"seed": 2, "a": 0}}, **TEXTS)
    with pytest.raises(ValueError, match=r"runs/1 holds a run of another network \(its weights"):
        check_settings({"weights": "1f"}, {"weights": "2e"}, **TEXTS)


def test_a_damaged_record_is_refused_by_its_name(tmp_path):
    path = tmp_path / "settings.json"
    record = {"flip": True, "scales": [0.5, 1.0], "names": ["Stra\u00dfe", "\U0001f600"]}
    write_record(path, record)
    data = path.read_bytes()
    assert read_record(path, "remove it") == record
    generator, refused = np.random.default_rng(0), 0
    for _ in range(300):
        place = int(generator.integers(len(data)))
        flipped = bytes([data[place] ^ 1 << int(generator.integers(8))])
        for content in (data[:place] + flipped + data[place + 1 :], data[:place]):
            path.write_bytes(content)
            try:
                found = read_record(path, "remove it")
            except ValueError as error:
                refused += 1
                text = str(error)
                assert text.startswith(f"{path} is damaged (") and text.endswith("; remove it.")
            else:  # white space or the name of the checksum
                assert {name: found.get(name) for name in record} == record
    assert refused > 500
    path.write_text('{"flip": false}')  # of an earlier version
    assert read_record(path, "remove it") == {"flip": False}


def test_json_of_another_kind_is_damaged(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    assert read_json(tmp_path / "a.json", "remove it", list) == [1]
    with pytest.raises(ValueError, match=r"a.json is damaged \(it contains a list, not a dict\)"):
        read_json(tmp_path / "a.json", "remove it")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a.json is damaged \(maximum recursion"):
        read_json(tmp_path / "a.json", "remove it")


def test_a_row_has_one_checksum_in_every_form():
    row = {"name": "a", "width": 0, "failure": None}
    read = {"name": "a", "width": "0", "failure": "", "other": "x"}
    columns = ("name", "width", "failure")
    assert row_checksum(columns, row) == row_checksum(columns, read)
    assert row_checksum(columns, row) != row_checksum(columns, {**row, "width": 4})
    assert len(row_checksum(columns, row)) == 8
