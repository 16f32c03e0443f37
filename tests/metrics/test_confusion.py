import numpy as np
import pytest

from keras_psp.metrics.confusion import (
    add_cells,
    confusion_matrix,
    mean_of_present,
    nonzero_cells,
    ratio,
)


def test_counts_match_a_loop_over_pixels():
    random = np.random.default_rng(0)
    labels = random.integers(-1, 5, (13, 11)).astype(np.int16)
    predictions = random.integers(-1, 5, (13, 11))
    counts = confusion_matrix(labels, predictions, 3, ignore_class=1)
    expected = np.zeros((3, 4), int)
    for label, prediction in zip(labels.ravel(), predictions.ravel(), strict=True):
        if label in (0, 2):
            expected[label, prediction if prediction in (0, 1, 2) else 3] += 1
    assert counts.tolist() == expected.tolist()


def test_small_integer_types_do_not_overflow():
    values = np.arange(200, dtype=np.uint8)
    counts = confusion_matrix(values, values, 200)
    assert counts[:, :-1].tolist() == np.eye(200, dtype=int).tolist()


def test_nonzero_cells_restore_the_matrix():
    counts = np.array([[5, 0, 1], [0, 0, 2]])
    cells = nonzero_cells(counts)
    assert cells.tolist() == [[0, 0, 5], [0, 2, 1], [1, 2, 2]]
    total = np.zeros((2, 3), np.int64)
    add_cells(total, cells)
    add_cells(total, tuple(cells.ravel().tolist()))
    add_cells(total, ())
    assert total.tolist() == (2 * counts).tolist()


def test_ratio_with_zero_denominator_is_nan():
    np.testing.assert_array_equal(ratio([1, 0, 3], [2, 0, 0.5]), [0.5, np.nan, 6])
    assert mean_of_present(np.array([1, np.nan, 2])) == 1.5
    assert np.isnan(mean_of_present(np.array([np.nan])))


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"shape \(2,\) but labels \(3,\); give one prediction"):
        confusion_matrix(np.zeros(3, int), np.zeros(2, int), 2)
    with pytest.raises(ValueError, match="predictions have dtype float64; they must be integers"):
        confusion_matrix(np.zeros(3, int), np.zeros(3), 2)
