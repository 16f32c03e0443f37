import json

import numpy as np

from keras_psp.evaluation.figures import percent, write_csv, write_json


def test_percent_rounds_and_marks_undefined_values():
    assert percent(0.12345) == "12.3 %"
    assert percent(0.12345, 2) == "12.35 %"
    assert percent(float("nan")) == "-"
    assert percent(float("nan"), undefined="?") == "?"


def test_nan_is_an_empty_cell_in_csv(tmp_path):
    write_csv(tmp_path / "a.csv", ("name", "iou"), [("a, b", np.float64("nan")), ("c", 0.5)])
    assert (tmp_path / "a.csv").read_text() == 'name,iou\n"a, b",\nc,0.5\n'


def test_no_cell_is_a_formula(tmp_path):
    rows = [('=HYPERLINK("http://a","b")', -0.5), ("@SUM(A1)", 1), ("-1+1", 2), ("sky", 3)]
    write_csv(tmp_path / "a.csv", ("=1+1", "iou"), rows)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "'=1+1,iou",
        '"\'=HYPERLINK(""http://a"",""b"")",-0.5',
        "'@SUM(A1),1",
        "'-1+1,2",
        "sky,3",
    ]


def test_nan_is_null_in_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [np.float64("nan"), {"b": 1.5}], "c": "é"})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {
        "a": [None, {"b": 1.5}],
        "c": "é",
    }
