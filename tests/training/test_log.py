import csv

import numpy as np
import pytest

from keras_psp.training.log import Table

COLUMNS = ("step", "loss")


def written(path, steps=4):
    table = Table(path, COLUMNS)
    table.cut(0)
    for step in range(1, steps + 1):
        table.add({"step": step, "loss": 1 / step})
    return table


def test_rows_after_the_checkpoint_are_removed(tmp_path):
    table = written(tmp_path / "log.csv")
    with open(table.path, "a") as file:
        file.write("5")  # an incomplete row of a killed process
    again = Table(table.path, COLUMNS)
    again.cut(3)
    assert again.column("step") == [1, 2, 3]
    assert again.column("loss") == [1 / step for step in (1, 2, 3)]
    again.add({"step": 4})
    with open(table.path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["loss"]) for row in rows[-2:]] == [("3", str(1 / 3)), ("4", "")]
    assert len({row["check"] for row in rows}) == 4


def test_a_damaged_table_is_refused_by_its_name(tmp_path):
    path = tmp_path / "log.csv"
    written(path)
    rows = Table(path, COLUMNS).rows
    data, generator, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        place = int(generator.integers(len(data)))
        flipped = bytes([data[place] ^ 1 << int(generator.integers(8))])
        for content in (data[:place] + flipped + data[place + 1 :], data[:place]):
            path.write_bytes(content)
            try:
                table = Table(path, COLUMNS)
                table.cut(4, end=4)
            except ValueError as error:
                refused += 1
                text = str(error)
                assert text.startswith(f"{path} is damaged (") and "\n" not in text
                assert text.endswith("restore it, or remove it to resume without its rows.")
            else:
                kept = [{name: row[name] for name in COLUMNS} for row in table.rows]
                assert kept == [{name: row[name] for name in COLUMNS} for row in rows]
    assert refused > 500


def test_a_removed_table_begins_again(tmp_path):
    table = Table(tmp_path / "log.csv", COLUMNS)
    table.cut(4, end=4)
    table.add({"step": 5, "loss": 1.0})
    again = Table(tmp_path / "log.csv", COLUMNS)
    again.cut(5, end=5)
    assert again.column("step") == [5]


def test_tables_of_earlier_versions_have_no_checksums(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n2,\n")
    table = Table(tmp_path / "log.csv", COLUMNS)
    np.testing.assert_equal(table.column("loss"), [0.5, np.nan])
    for content, reason in (
        ("step\n1\n", "without the column loss"),
        ("step,loss\n1,x\n", "could not convert"),
        ("step,loss\n1\n", "wrong number of cells in the row of step 1"),
        ("step,loss\n1,2,3\n", "wrong number of cells in the row of step 1"),
    ):
        (tmp_path / "log.csv").write_text(content)
        with pytest.raises(ValueError, match=rf"log.csv is damaged \({reason}"):
            Table(tmp_path / "log.csv", COLUMNS)
