import numpy as np
import pytest

from keras_psp.metrics.confusion import confusion_matrix, mean_of_present, ratio


def test_counts_are_those_of_a_loop():
    random = np.random.default_rng(0)
    labels = random.integers(-1, 5, (13, 11)).astype(np.int16)
    predictions = random.integers(-1, 5, (13, 11))
    counts = confusion_matrix(labels, predictions, 3, ignore_class=1)
    expected = np.zeros((3, 4), int)
    for label, prediction in zip(labels.ravel(), predictions.ravel(), strict=True):
        if label in (0, 2):
            expected[label, prediction if prediction in (0, 1, 2) else 3] += 1
    assert counts.tolist() == expected.tolist()


def test_small_types_do_not_overflow():
    values = np.arange(200, dtype=np.uint8)
    counts = confusion_matrix(values, values, 200)
    assert counts[:, :-1].tolist() == np.eye(200, dtype=int).tolist()


def test_ratio_is_undefined_over_zero():
    np.testing.assert_array_equal(ratio([1, 0, 3], [2, 0, 0.5]), [0.5, np.nan, 6])
    assert mean_of_present(np.array([1, np.nan, 2])) == 1.5
    assert np.isnan(mean_of_present(np.array([np.nan])))


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"shape \(2,\) and labels \(3,\); give one prediction"):
        confusion_matrix(np.zeros(3, int), np.zeros(2, int), 2)
    with pytest.raises(ValueError, match="predictions have dtype float64; give integers"):
        confusion_matrix(np.zeros(3, int), np.zeros(3), 2)
