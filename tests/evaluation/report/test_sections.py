import json
import re

import numpy as np
import pytest
from support.report_pages import (
    CONFUSION,
    NAMES,
    embedded_images,
    example,
    measures,
    text_of,
    written,
)

from keras_psp.evaluation import ErrorGroups, Reliability
from keras_psp.evaluation.errors import GROUPS
from keras_psp.evaluation.report.images import GROUP_STYLES


def test_measures_match_values_computed_by_hand(tmp_path):
    text = text_of(written(tmp_path))
    assert "33.33 % mean IoU" in text  # 1/2, 1/2 and 0
    assert "62.50 % pixel accuracy" in text  # 5 of 8
    assert "62.50 % class accuracy" in text  # 3/4 and 2/4
    assert "50.00 % frequency-weighted IoU" in text
    assert "8 labeled pixels; 3 of 3 classes" in text


def test_absent_classes_are_left_out_of_the_means(tmp_path):
    text = text_of(written(tmp_path, measures=measures([[1, 0, 0], [0, 1, 0], [0, 0, 0]])))
    assert "100.00 % mean IoU" in text and "2 of 3 classes" in text
    zero = measures([[1, 0, 0], [0, 1, 0], [0, 0, 0]], absent_as_zero=True)
    text = text_of(written(tmp_path, measures=zero))
    assert "66.67 % mean IoU" in text and "Absent ones count as 0 in the means." in text
    nothing = text_of(written(tmp_path, measures=measures(np.zeros((3, 3), int))))
    assert nothing.count("\N{EN DASH} mean IoU") == 1


def test_predictions_outside_the_classes_get_a_column(tmp_path):
    content = written(tmp_path, measures=measures([[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0]]))
    assert "50.00 % pixel accuracy" in text_of(content)
    data = json.loads(re.search(r'id="confusion">(.*?)</script>', content)[1])
    assert data["columns"] == [*NAMES, "no class"]
    assert data["counts"][0] == [1, 0, 0, 3]
    none = written(tmp_path, measures=measures(np.pad(CONFUSION, ((0, 0), (0, 1)))))
    assert "no class" not in none


def test_classes_are_bars_in_their_colors_best_first(tmp_path):
    content = written(tmp_path, measures=measures([[8, 2, 0], [0, 8, 0], [0, 0, 0]]))
    bars = re.findall(r"<li><span>(.*?)</span>.*?width:([\d.]+)%;background:(#\w+)", content)
    # sky 8 of 10, the second 8 of 10; the last occurs nowhere.
    assert [bar[1:] for bar in bars] == [
        ("80.0", "#fa0000"),
        ("80.0", "#00c800"),
        ("0.0", "#000096"),
    ]
    swapped = written(tmp_path, measures=measures([[1, 7, 2], [0, 8, 0], [0, 0, 8]]))
    assert re.findall(r"background:(#\w+)", swapped)[:3] == ["#000096", "#00c800", "#fa0000"]


def test_most_wrong_pixels_are_listed(tmp_path):
    rows = re.findall(r"<tr><td>(.*?)</tr>", written(tmp_path))
    texts = [text_of(row) for row in rows]
    assert f"{NAMES[1]} sky 50.0 % 2 " in texts
    assert "sky car 25.0 % 1 " in texts


def test_error_groups_show_figures_and_an_example(tmp_path):
    groups = ErrorGroups(3)
    examples = [example("small"), example("gap", wrong=20, size=(100, 100))]
    for each in examples:
        groups.update(each.truth, each.prediction)
    content = written(tmp_path, images=examples, groups=groups)
    result = groups.result()
    assert result.pixels["broken"] == 99 * 20  # 99 rows are labeled
    text = text_of(content)
    assert "Inconspicuous: large things broken up: 100.0 %" in text
    assert "Mismatched relationship: 0.0 %" in text
    assert "1\N{NARROW NO-BREAK SPACE}980 of " in text
    assert "classes that lose most pixels: sky (1\N{NARROW NO-BREAK SPACE}980)." in text
    section = content[content.index("large things broken up: 100") :]
    assert "<b>40.0 %</b> gap<" in section  # IoU 0.8 of sky and 0 of car
    marked = np.asarray(embedded_images(section)[2].convert("RGBA"))
    color = re.search(r"background:#(\w+)\"></i>Inconspicuous: large", content)[1]
    assert bytes(marked[50, 10]).hex() == color + "ff" and marked[50, 50, 3] == 0


def test_every_error_group_has_a_text():
    assert sorted(GROUP_STYLES) == sorted(GROUPS)


def test_settings_are_shown_without_brackets(tmp_path):
    settings = {"scales": (0.5, 1), "crop": None, "model": {"git": {"commit": "abc", "by": []}}}
    text = text_of(written(tmp_path, settings=settings))
    for words in ("scales 0.5, 1 ", "crop none ", " model git commit abc, by none "):
        assert words in text


def test_training_without_epochs_has_no_curves(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.csv").write_text("epoch,step\n")
    assert "Training" not in text_of(written(tmp_path, run=folder))


def test_folder_without_a_training_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no log\.csv; give the output folder of a"):
        written(tmp_path, run=tmp_path)


def test_calibration_has_its_error_a_chart_and_the_bins_with_pixels(tmp_path):
    reliability = Reliability(bins=2)
    reliability.update([0.6, 0.8, 0.8, 1.0], [False, True, False, False])
    content = written(tmp_path, reliability=reliability)
    text = text_of(content)
    assert "Expected calibration error 55.00 %" in text
    assert "50.0 % to 100.0 % 80.0 % 25.0 % 100.0 %" in text
    assert "0.0 % to 50.0 %" not in text
    assert 'aria-label="Accuracy by probability"' in content
    assert "Calibration" not in text_of(written(tmp_path))
