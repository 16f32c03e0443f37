import math
import re

import matplotlib
import numpy as np
import pytest
from support.report_pages import (
    embedded_images,
    measures,
    run_folder,
    text_of,
    written,
)

from keras_psp.evaluation.report.charts import Curve, LineChart


def points_of(content, style):
    """Coordinates of the first curve with that text in its style."""
    (path, *_) = re.findall(rf'd="([^"]*)"[^>]*style="[^"]*{re.escape(style)}', content)
    return np.array(re.findall(r"[ML] (\S+) (\S+)", path), float).T


def test_confusion_matrix_is_normalized_by_rows_and_reordered(tmp_path):
    in_order, by_worst = embedded_images(written(tmp_path))[:2]
    cells = np.asarray(in_order)
    assert cells.shape == (3, 3, 4)
    # Roots of 3/4, 0, 1/4; 2/4, 2/4, 0; a class without labels is empty.
    expected = 217 * np.sqrt([[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(cells[..., 3], expected, atol=0.5)
    assert (cells[0, 0, :3] == cells[1, 1, :3]).all() and (cells[0, 0, :3] != cells[0, 2, :3]).any()
    # IoU 1/2, 1/2 and 0: the last comes first.
    np.testing.assert_array_equal(np.asarray(by_worst), cells[[2, 0, 1]][:, [2, 0, 1]])


def test_all_of_150_classes_have_names_and_cells(tmp_path):
    names = [f"class number {index}" for index in range(150)]
    confusion = np.random.default_rng(0).integers(0, 50, (150, 150))
    content = written(tmp_path, measures=measures(confusion, names), palette=None)
    assert np.asarray(embedded_images(content)[0]).shape == (150, 150, 4)
    for name in names:  # a bar, a row of the table, rows and columns of two matrices
        assert content.count(f">{name}<") >= 6
    assert len(content) < 2**20


def test_training_shows_its_curves_and_settings(tmp_path):
    content = written(tmp_path, run=run_folder(tmp_path))
    text = text_of(content)
    for words in ("Loss by step", "Mean IoU by step", "Learning rate by step"):
        assert words in text
    for words in ("name camvid", "bin_sizes 1, 2", "keras 3.13", "time 2026-01-02"):
        assert words in text
    rate = content[content.index("<b>Learning rate</b>") :]
    x, y = points_of(rate, "stroke: var(--first)")
    np.testing.assert_allclose(np.diff(x), 286 / 4, atol=0.1)  # 4 steps over the chart's width
    # Half the rate is drawn at half the chart's height.
    np.testing.assert_allclose(y, [8, 8, 8 + 158 / 2, 8 + 158 / 2], atol=0.1)


def test_long_curves_keep_their_extremes(tmp_path):
    folder = run_folder(tmp_path)
    rows = [f"{step},1,{2 if step == 7777 else 1},0.1,0.01,1" for step in range(1, 20001)]
    header = "step,epoch,loss,mean_iou,learning_rate,images_per_second"
    (folder / "steps.csv").write_text("\n".join([header, *rows]) + "\n")
    content = written(tmp_path, run=folder)
    assert len(content) < 100_000
    _, heights = points_of(content, "stroke-opacity: 0.2")
    assert len(heights) <= 500
    # Step 7777 is cut off at the top edge, 8 points from above; all others are lower.
    assert heights.min() == pytest.approx(8, abs=0.01)
    assert np.sort(heights)[1] > 20


def test_charts_have_only_the_colors_of_the_page():
    svg = LineChart(
        "Loss", [Curve("a", [1, 2], [3.0, 4.0]), Curve("b", [1], [3.0], "second")]
    ).svg()
    styles = ";".join(re.findall(r'style="(.*?)"', svg))
    assert set(re.findall(r"(?:fill|stroke): ([^;]+)", styles)) == {
        "none",
        *(f"var(--{name})" for name in ("first", "second", "soft", "edge")),
    }
    assert "<style" not in svg and "url(" not in svg


def test_charts_are_reproducible_whatever_the_user_has_set():
    chart = LineChart("Loss", [Curve("a", [1, 2, 3], [3.0, math.nan, 4.0], dots=True)])
    with matplotlib.rc_context({"lines.linestyle": ":", "font.size": 40, "svg.hashsalt": None}):
        assert chart.svg() == LineChart(chart.title, chart.curves).svg()
        changed = chart.svg()
    assert chart.svg() == changed


def test_charts_without_finite_values_are_left_out():
    assert LineChart("Loss", [Curve("a", [1, 2], [math.nan, math.inf])]).drawn == []
