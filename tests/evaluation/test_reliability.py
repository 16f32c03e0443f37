import numpy as np
import pytest
from PIL import Image

from keras_psp.evaluation import Reliability, reliability_diagram


def test_the_error_by_hand():
    reliability = Reliability(bins=2)
    # (0, 0.5]: confidence 0.45, accuracy 1/2; (0.5, 1]: confidence 0.8, accuracy 1/4.
    reliability.update([0.4, 0.5, 0.6, 0.8, 0.8, 1.0], [True, False, False, True, False, False])
    assert reliability.counts.tolist() == [2, 4]
    np.testing.assert_allclose(reliability.confidence, [0.45, 0.8])
    np.testing.assert_allclose(reliability.accuracy, [0.5, 0.25])
    assert reliability.error == pytest.approx((2 * 0.05 + 4 * 0.55) / 6)
    assert reliability.mean_accuracy == pytest.approx(1 / 3)
    assert reliability.mean_confidence == pytest.approx(4.1 / 6)
    expected = [(0, 0.5, 0.45, 0.5, 1 / 3), (0.5, 1, 0.8, 0.25, 2 / 3)]
    np.testing.assert_allclose(reliability.rows(), expected)


def test_edges_belong_to_the_lower_bin_as_in_the_paper():
    reliability = Reliability(bins=4)
    reliability.update([0.0, 0.25, 0.26, 0.75, 1.0], [True] * 5)
    assert reliability.counts.tolist() == [2, 1, 1, 1]


def test_parts_add_up_and_are_restored():
    rng = np.random.default_rng(0)
    values, right = rng.random((2, 5, 7)), rng.random((2, 5, 7)) < 0.5
    whole, first, second = Reliability(), Reliability(), Reliability()
    whole.update(values, right)
    first.update(values[0], right[0])
    second.update(values[1], right[1])
    total = Reliability.from_arrays((first + second).arrays())
    assert total.error == pytest.approx(whole.error)
    np.testing.assert_array_equal(total.correct, whole.correct)
    assert np.isnan(Reliability().error)
    with pytest.raises(ValueError, match="bins is 15 on one side of \\+ and 3 on the other"):
        Reliability() + Reliability(3)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="shape \\(2,\\) and is_correct \\(1,\\)"):
        Reliability().update([0.5, 0.5], [True])
    with pytest.raises(ValueError, match="aren't from 0 to 1; give a softmax"):
        Reliability().update([1.5], [True])
    with pytest.raises(ValueError, match=r"bins is 2\.5; it must be an integer >= 1"):
        Reliability(2.5)


def test_a_diagram_without_parts_is_refused(tmp_path):
    with pytest.raises(ValueError, match="parts is empty; give the counts of at least one"):
        reliability_diagram([], path=tmp_path / "a.png")


def test_the_diagram_has_one_column_per_part(tmp_path):
    reliability = Reliability()
    reliability.update([0.3, 0.9], [False, True])
    widths = []
    for count in (1, 2):
        path = tmp_path / "reliability.png"
        reliability_diagram([("val", reliability)] * count, path=path)
        with Image.open(path) as image:
            widths.append(image.width)
    assert widths[1] == 2 * widths[0]
