import csv
import io
import json

import numpy as np
import pytest
import rich.console

from keras_psp import MeanIoU
from keras_psp.evaluation.measures import Measures, class_table, print_class_table

NAMES = ("sky", "sea", "boat")
# Rows are labels, columns are predictions: 4 + 1 pixels of sky, 2 + 3 of sea; boat is in
# neither labels nor predictions.
COUNTS = np.array([[4, 1, 0], [2, 3, 0], [0, 0, 0]])


def test_measures_match_values_computed_by_hand():
    measures = Measures(COUNTS, NAMES)
    np.testing.assert_allclose(measures.iou, [4 / 7, 3 / 6, np.nan])
    np.testing.assert_allclose(measures.accuracy, [4 / 5, 3 / 5, np.nan])
    np.testing.assert_allclose(measures.precision, [4 / 6, 3 / 4, np.nan])
    np.testing.assert_allclose(measures.share, [0.5, 0.5, 0])
    assert measures.mean_iou == pytest.approx((4 / 7 + 1 / 2) / 2)
    assert measures.pixel_accuracy == pytest.approx(7 / 10)
    assert measures.class_accuracy == pytest.approx(7 / 10)
    assert measures.frequency_weighted_iou == pytest.approx((4 / 7 + 1 / 2) / 2)


def test_absent_as_zero_counts_absent_classes_as_zero():
    measures = Measures(COUNTS, NAMES, absent_as_zero=True)
    assert measures.mean_iou == pytest.approx((4 / 7 + 1 / 2) / 3)
    assert measures.class_accuracy == pytest.approx(7 / 15)
    assert np.isnan(measures.iou[2])  # the class's own IoU stays undefined


def test_extra_column_counts_as_errors_of_the_label():
    measures = Measures([[1, 0, 1], [0, 2, 0]], ("a", "b"))
    np.testing.assert_allclose(measures.iou, [0.5, 1])
    np.testing.assert_allclose(measures.accuracy, [0.5, 1])
    np.testing.assert_allclose(measures.precision, [1, 1])
    np.testing.assert_allclose(measures.share, [0.5, 0.5])
    assert measures.pixel_accuracy == 0.75
    assert measures.frequency_weighted_iou == 0.75


def test_measures_match_counting_pixel_by_pixel():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 4, 500), random.integers(0, 5, 500)
    counts = [[np.sum((labels == i) & (predictions == j)) for j in range(5)] for i in range(4)]
    measures = Measures(counts, "abcd")
    iou = [
        np.sum((labels == i) & (predictions == i)) / np.sum((labels == i) | (predictions == i))
        for i in range(4)
    ]
    np.testing.assert_allclose(measures.iou, iou, rtol=1e-14)
    assert measures.pixel_accuracy == np.mean(labels == predictions)
    weighted = np.mean([iou[label] for label in labels])
    assert measures.frequency_weighted_iou == pytest.approx(weighted, rel=1e-14)


def test_addition_sums_the_counts():
    whole = Measures(COUNTS, NAMES) + Measures(np.eye(3, 4, dtype=np.uint8), NAMES)
    assert whole.confusion.tolist() == [[5, 1, 0, 0], [2, 4, 0, 0], [0, 0, 1, 0]]
    assert whole.confusion.dtype == np.int64
    with pytest.raises(ValueError, match=r"class_names is \('sky'.* on one side of \+"):
        Measures(COUNTS, NAMES) + Measures(COUNTS, "abc")
    with pytest.raises(ValueError, match="absent_as_zero is False on one side"):
        Measures(COUNTS, NAMES) + Measures(COUNTS, NAMES, absent_as_zero=True)
    with pytest.raises(TypeError):
        Measures(COUNTS, NAMES) + COUNTS


@pytest.mark.parametrize("absent_as_zero", [False, True])
def test_measures_are_nan_if_nothing_is_counted(absent_as_zero):
    measures = Measures(np.zeros((2, 2), int), "ab", absent_as_zero=absent_as_zero)
    means = (
        measures.mean_iou,
        measures.pixel_accuracy,
        measures.class_accuracy,
        measures.frequency_weighted_iou,
    )
    assert np.isnan(means).all() and np.isnan(measures.share).all()


def test_csv_and_json_contain_every_measure(tmp_path):
    measures = Measures(COUNTS, ("sky, blue", 'sea "x"', "boät"))
    measures.to_csv(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(measures.class_names)
    assert [float(row["iou"]) for row in rows[:2]] == measures.iou[:2].tolist()
    assert rows[2]["iou"] == rows[2]["precision"] == ""
    assert float(rows[2]["share"]) == 0

    measures.to_json(str(tmp_path / "a.json"))
    content = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert content["mean_iou"] == measures.mean_iou
    assert content["frequency_weighted_iou"] == measures.frequency_weighted_iou
    assert content["classes"][1] == {
        "class": 'sea "x"',
        "iou": 0.5,
        "accuracy": 0.6,
        "precision": 0.75,
        "share": 0.5,
    }
    assert content["classes"][2]["iou"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.json"}


def test_print_shows_table_and_means():
    text = io.StringIO()
    Measures(COUNTS, NAMES).print(console=rich.console.Console(file=text, width=60))
    assert "57.1 %" in text.getvalue() and "boat" in text.getvalue()
    assert text.getvalue().splitlines()[-1] == (
        "mean IoU 53.57 %   pixel accuracy 70.00 %   class accuracy 70.00 %   "
        "frequency-weighted IoU 53.57 %"
    )


@pytest.mark.parametrize(
    ("confusion", "message"),
    [
        (np.zeros((2, 4), int), r"shape \(2, 4\); it must be \(num_classes, num_classes\), or"),
        (np.zeros(3, int), r"shape \(3,\); it must be"),
        (np.zeros((2, 2)), "dtype float64; give integer pixel counts"),
        (np.array([[1, -3], [0, 0]]), "has the count -3; counts can't be negative"),
        (np.zeros((3, 3), int), "2 class_names for 3 classes; give one per class"),
    ],
)
def test_invalid_arguments_raise(confusion, message):
    with pytest.raises(ValueError, match=message):
        Measures(confusion, "ab")


def metric_with_data():
    metric = MeanIoU(3)
    metric.update_state(np.array([[[0, 0, 1, 255]]]), np.array([[[0, 1, 1, 2]]]))
    return metric


def test_class_table_shows_measures_and_absent_classes():
    text = io.StringIO()
    console = rich.console.Console(file=text, width=80)
    print_class_table(metric_with_data(), ("sky", "sea", "boat"), console=console)
    rows = {line.split()[1]: line for line in text.getvalue().splitlines() if "│" in line}
    assert "50.0 %" in rows["sky"]
    assert "66.7 %" in rows["sky"]  # 2 of the 3 labeled pixels
    assert "100.0 %" in rows["sea"]  # recall
    assert rows["boat"].count("-") == 3  # all but the share
    assert "mean IoU 50.00 %   pixel accuracy 66.67 %   class accuracy 75.00 %" in text.getvalue()


def test_markup_in_class_names_is_printed_literally():
    text = io.StringIO()
    console = rich.console.Console(file=text, width=80)
    print_class_table(metric_with_data(), ("road [paved]", "[/x]", "boat"), console=console)
    assert "road [paved]" in text.getvalue() and "[/x]" in text.getvalue()


def test_class_table_needs_one_name_per_class():
    with pytest.raises(ValueError, match="2 class_names for 3 classes; give one per class"):
        class_table(metric_with_data(), ("sky", "sea"))
